//! What does not compile: a way from a number to an account without a caller, a purpose and a charge; and anything but lookups
//! through a [`Discovery`](super::Discovery).
//!
//! Nothing but documentation tests. Each that must not compile stands beside one that does and differs in one line, so that
//! it fails for that line. `tests/engine/lookup/public_api.rs` is the other half: it lists what is public.
//!
//! # No way around the charge
//!
//! A lookup names its caller.
//!
//! ```compile_fail
//! # #[allow(unused_imports)]
//! # use unlisted::{AccountId, Caller, Discovery, Index, OptIns, PhoneHash, Purpose};
//! # fn twin(index: &Index, discovery: &Discovery, caller: &Caller, number: PhoneHash) -> unlisted::Result<()> {
//! index.lookup(Purpose::Search, &[number])?;
//! # Ok(())
//! # }
//! ```
//!
//! ```
//! # #[allow(unused_imports)]
//! # use unlisted::{AccountId, Caller, Discovery, Index, OptIns, PhoneHash, Purpose};
//! # fn twin(index: &Index, discovery: &Discovery, caller: &Caller, number: PhoneHash) -> unlisted::Result<()> {
//! index.lookup(caller, Purpose::Search, &[number])?;
//! # Ok(())
//! # }
//! ```
//!
//! It names its purpose.
//!
//! ```compile_fail
//! # #[allow(unused_imports)]
//! # use unlisted::{AccountId, Caller, Discovery, Index, OptIns, PhoneHash, Purpose};
//! # fn twin(index: &Index, discovery: &Discovery, caller: &Caller, number: PhoneHash) -> unlisted::Result<()> {
//! index.lookup(caller, &[number])?;
//! # Ok(())
//! # }
//! ```
//!
//! ```
//! # #[allow(unused_imports)]
//! # use unlisted::{AccountId, Caller, Discovery, Index, OptIns, PhoneHash, Purpose};
//! # fn twin(index: &Index, discovery: &Discovery, caller: &Caller, number: PhoneHash) -> unlisted::Result<()> {
//! index.lookup(caller, Purpose::Search, &[number])?;
//! # Ok(())
//! # }
//! ```
//!
//! The probe that follows the charge is not public.
//!
//! ```compile_fail
//! # #[allow(unused_imports)]
//! # use unlisted::{AccountId, Caller, Discovery, Index, OptIns, PhoneHash, Purpose};
//! # fn twin(index: &Index, discovery: &Discovery, caller: &Caller, number: PhoneHash) -> unlisted::Result<()> {
//! index.probe(Purpose::Search, &[number])?;
//! # Ok(())
//! # }
//! ```
//!
//! ```
//! # #[allow(unused_imports)]
//! # use unlisted::{AccountId, Caller, Discovery, Index, OptIns, PhoneHash, Purpose};
//! # fn twin(index: &Index, discovery: &Discovery, caller: &Caller, number: PhoneHash) -> unlisted::Result<()> {
//! index.lookup(caller, Purpose::Search, &[number])?;
//! # Ok(())
//! # }
//! ```
//!
//! Segments cannot be read past it.
//!
//! ```compile_fail
//! # #[allow(unused_imports)]
//! # use unlisted::{AccountId, Caller, Discovery, Index, OptIns, PhoneHash, Purpose};
//! # fn twin(index: &Index, discovery: &Discovery, caller: &Caller, number: PhoneHash) -> unlisted::Result<()> {
//! let _ = index.segments();
//! # Ok(())
//! # }
//! ```
//!
//! ```
//! # #[allow(unused_imports)]
//! # use unlisted::{AccountId, Caller, Discovery, Index, OptIns, PhoneHash, Purpose};
//! # fn twin(index: &Index, discovery: &Discovery, caller: &Caller, number: PhoneHash) -> unlisted::Result<()> {
//! let _ = index.stats()?;
//! # Ok(())
//! # }
//! ```
//!
//! Nor through what is inside an index.
//!
//! ```compile_fail
//! # #[allow(unused_imports)]
//! # use unlisted::{AccountId, Caller, Discovery, Index, OptIns, PhoneHash, Purpose};
//! # fn twin(index: &Index, discovery: &Discovery, caller: &Caller, number: PhoneHash) -> unlisted::Result<()> {
//! let _ = &index.inner;
//! # Ok(())
//! # }
//! ```
//!
//! ```
//! # #[allow(unused_imports)]
//! # use unlisted::{AccountId, Caller, Discovery, Index, OptIns, PhoneHash, Purpose};
//! # fn twin(index: &Index, discovery: &Discovery, caller: &Caller, number: PhoneHash) -> unlisted::Result<()> {
//! let _ = &index.clone();
//! # Ok(())
//! # }
//! ```
//!
//! Nor can its modules be named.
//!
//! ```compile_fail
//! # #[allow(unused_imports)]
//! # use unlisted::{AccountId, Caller, Discovery, Index, OptIns, PhoneHash, Purpose};
//! # fn twin(index: &Index, discovery: &Discovery, caller: &Caller, number: PhoneHash) -> unlisted::Result<()> {
//! use unlisted::index::Index as _;
//! # Ok(())
//! # }
//! ```
//!
//! ```
//! # #[allow(unused_imports)]
//! # use unlisted::{AccountId, Caller, Discovery, Index, OptIns, PhoneHash, Purpose};
//! # fn twin(index: &Index, discovery: &Discovery, caller: &Caller, number: PhoneHash) -> unlisted::Result<()> {
//! use unlisted::Index as _;
//! # Ok(())
//! # }
//! ```
//!
//! A reply cannot be made or changed, so that its charge is what was paid ...
//!
//! ```compile_fail
//! # #[allow(unused_imports)]
//! # use unlisted::{AccountId, Caller, Discovery, Index, OptIns, PhoneHash, Purpose};
//! # fn twin(index: &Index, discovery: &Discovery, caller: &Caller, number: PhoneHash) -> unlisted::Result<()> {
//! let _ = index.lookup(caller, Purpose::Search, &[number])?.charged;
//! # Ok(())
//! # }
//! ```
//!
//! ```
//! # #[allow(unused_imports)]
//! # use unlisted::{AccountId, Caller, Discovery, Index, OptIns, PhoneHash, Purpose};
//! # fn twin(index: &Index, discovery: &Discovery, caller: &Caller, number: PhoneHash) -> unlisted::Result<()> {
//! let _ = index.lookup(caller, Purpose::Search, &[number])?.charged();
//! # Ok(())
//! # }
//! ```
//!
//! ... and its matches are those of a lookup.
//!
//! ```compile_fail
//! # #[allow(unused_imports)]
//! # use unlisted::{AccountId, Caller, Discovery, Index, OptIns, PhoneHash, Purpose};
//! # fn twin(index: &Index, discovery: &Discovery, caller: &Caller, number: PhoneHash) -> unlisted::Result<()> {
//! let _ = index.lookup(caller, Purpose::Search, &[number])?.shown;
//! # Ok(())
//! # }
//! ```
//!
//! ```
//! # #[allow(unused_imports)]
//! # use unlisted::{AccountId, Caller, Discovery, Index, OptIns, PhoneHash, Purpose};
//! # fn twin(index: &Index, discovery: &Discovery, caller: &Caller, number: PhoneHash) -> unlisted::Result<()> {
//! let _ = index.lookup(caller, Purpose::Search, &[number])?.matches().count();
//! # Ok(())
//! # }
//! ```
//!
//! The operator's door opens with a caller or a window of time, never with a number.
//!
//! ```compile_fail
//! # #[allow(unused_imports)]
//! # use unlisted::{AccountId, Caller, Discovery, Index, OptIns, PhoneHash, Purpose};
//! # fn twin(index: &Index, discovery: &Discovery, caller: &Caller, number: PhoneHash) -> unlisted::Result<()> {
//! index.inspector().disclosed_to(&number)?;
//! # Ok(())
//! # }
//! ```
//!
//! ```
//! # #[allow(unused_imports)]
//! # use unlisted::{AccountId, Caller, Discovery, Index, OptIns, PhoneHash, Purpose};
//! # fn twin(index: &Index, discovery: &Discovery, caller: &Caller, number: PhoneHash) -> unlisted::Result<()> {
//! index.inspector().disclosed_to(caller)?;
//! # Ok(())
//! # }
//! ```
//!
//! # No way around the charge in an index of parts
//!
//! A lookup with tickets names its caller.
//!
//! ```compile_fail
//! # #[allow(unused_imports)]
//! # use unlisted::{AccountId, Caller, Discovery, Index, LookupOptions, OptIns, Pending, PhoneHash, Purpose};
//! # fn twin(index: &Index, discovery: &Discovery, caller: &Caller, number: PhoneHash) -> unlisted::Result<()> {
//! let _ = index.issue(Purpose::Search, &[number], LookupOptions::default())?;
//! # Ok(())
//! # }
//! ```
//!
//! ```
//! # #[allow(unused_imports)]
//! # use unlisted::{AccountId, Caller, Discovery, Index, LookupOptions, OptIns, Pending, PhoneHash, Purpose};
//! # fn twin(index: &Index, discovery: &Discovery, caller: &Caller, number: PhoneHash) -> unlisted::Result<()> {
//! let _ = index.issue(caller, Purpose::Search, &[number], LookupOptions::default())?;
//! # Ok(())
//! # }
//! ```
//!
//! It names its purpose.
//!
//! ```compile_fail
//! # #[allow(unused_imports)]
//! # use unlisted::{AccountId, Caller, Discovery, Index, LookupOptions, OptIns, Pending, PhoneHash, Purpose};
//! # fn twin(index: &Index, discovery: &Discovery, caller: &Caller, number: PhoneHash) -> unlisted::Result<()> {
//! let _ = index.issue(caller, &[number], LookupOptions::default())?;
//! # Ok(())
//! # }
//! ```
//!
//! ```
//! # #[allow(unused_imports)]
//! # use unlisted::{AccountId, Caller, Discovery, Index, LookupOptions, OptIns, Pending, PhoneHash, Purpose};
//! # fn twin(index: &Index, discovery: &Discovery, caller: &Caller, number: PhoneHash) -> unlisted::Result<()> {
//! let _ = index.issue(caller, Purpose::Search, &[number], LookupOptions::default())?;
//! # Ok(())
//! # }
//! ```
//!
//! A ticket has no type that could be filled in: it is bytes that end in a tag.
//!
//! ```compile_fail
//! # #[allow(unused_imports)]
//! # use unlisted::{AccountId, Caller, Discovery, Index, LookupOptions, OptIns, Pending, PhoneHash, Purpose};
//! # fn twin(index: &Index, discovery: &Discovery, caller: &Caller, number: PhoneHash) -> unlisted::Result<()> {
//! use unlisted::Ticket as _;
//! # Ok(())
//! # }
//! ```
//!
//! ```
//! # #[allow(unused_imports)]
//! # use unlisted::{AccountId, Caller, Discovery, Index, LookupOptions, OptIns, Pending, PhoneHash, Purpose};
//! # fn twin(index: &Index, discovery: &Discovery, caller: &Caller, number: PhoneHash) -> unlisted::Result<()> {
//! use unlisted::Pending as _;
//! # Ok(())
//! # }
//! ```
//!
//! An owner takes tickets and no numbers.
//!
//! ```compile_fail
//! # #[allow(unused_imports)]
//! # use unlisted::{AccountId, Caller, Discovery, Index, LookupOptions, OptIns, Pending, PhoneHash, Purpose};
//! # fn twin(index: &Index, discovery: &Discovery, caller: &Caller, number: PhoneHash) -> unlisted::Result<()> {
//! index.redeem(&[number])?;
//! # Ok(())
//! # }
//! ```
//!
//! ```
//! # #[allow(unused_imports)]
//! # use unlisted::{AccountId, Caller, Discovery, Index, LookupOptions, OptIns, Pending, PhoneHash, Purpose};
//! # fn twin(index: &Index, discovery: &Discovery, caller: &Caller, number: PhoneHash) -> unlisted::Result<()> {
//! index.redeem(&[0])?;
//! # Ok(())
//! # }
//! ```
//!
//! A lookup that was charged cannot be made ...
//!
//! ```compile_fail
//! # #[allow(unused_imports)]
//! # use unlisted::{AccountId, Caller, Discovery, Index, LookupOptions, OptIns, Pending, PhoneHash, Purpose};
//! # fn twin(index: &Index, discovery: &Discovery, caller: &Caller, number: PhoneHash) -> unlisted::Result<()> {
//! let _ = |pending: Pending| Pending { ..pending };
//! # Ok(())
//! # }
//! ```
//!
//! ```
//! # #[allow(unused_imports)]
//! # use unlisted::{AccountId, Caller, Discovery, Index, LookupOptions, OptIns, Pending, PhoneHash, Purpose};
//! # fn twin(index: &Index, discovery: &Discovery, caller: &Caller, number: PhoneHash) -> unlisted::Result<()> {
//! let _ = |pending: Pending| pending;
//! # Ok(())
//! # }
//! ```
//!
//! ... nor asked for more than it paid for.
//!
//! ```compile_fail
//! # #[allow(unused_imports)]
//! # use unlisted::{AccountId, Caller, Discovery, Index, LookupOptions, OptIns, Pending, PhoneHash, Purpose};
//! # fn twin(index: &Index, discovery: &Discovery, caller: &Caller, number: PhoneHash) -> unlisted::Result<()> {
//! let _ = |mut pending: Pending| pending.ask(&[number]);
//! # Ok(())
//! # }
//! ```
//!
//! ```
//! # #[allow(unused_imports)]
//! # use unlisted::{AccountId, Caller, Discovery, Index, LookupOptions, OptIns, Pending, PhoneHash, Purpose};
//! # fn twin(index: &Index, discovery: &Discovery, caller: &Caller, number: PhoneHash) -> unlisted::Result<()> {
//! let _ = |mut pending: Pending| pending.reissue();
//! # Ok(())
//! # }
//! ```
//!
//! A part of an index is not probed past its tickets.
//!
//! ```compile_fail
//! # #[allow(unused_imports)]
//! # use unlisted::{AccountId, Caller, Discovery, Index, LookupOptions, OptIns, Pending, PhoneHash, Purpose};
//! # fn twin(index: &Index, discovery: &Discovery, caller: &Caller, number: PhoneHash) -> unlisted::Result<()> {
//! index.find_for(Purpose::Search, &[number])?;
//! # Ok(())
//! # }
//! ```
//!
//! ```
//! # #[allow(unused_imports)]
//! # use unlisted::{AccountId, Caller, Discovery, Index, LookupOptions, OptIns, Pending, PhoneHash, Purpose};
//! # fn twin(index: &Index, discovery: &Discovery, caller: &Caller, number: PhoneHash) -> unlisted::Result<()> {
//! index.lookup(caller, Purpose::Search, &[number])?;
//! # Ok(())
//! # }
//! ```
//!
//! # A handler looks up and does nothing else
//!
//! A `Discovery` has no `update`.
//!
//! ```compile_fail
//! # #[allow(unused_imports)]
//! # use unlisted::{AccountId, Caller, Discovery, Index, OptIns, PhoneHash, Purpose};
//! # fn twin(index: &Index, discovery: &Discovery, caller: &Caller, number: PhoneHash) -> unlisted::Result<()> {
//! discovery.update(|_| Ok(()))?;
//! # Ok(())
//! # }
//! ```
//!
//! ```
//! # #[allow(unused_imports)]
//! # use unlisted::{AccountId, Caller, Discovery, Index, OptIns, PhoneHash, Purpose};
//! # fn twin(index: &Index, discovery: &Discovery, caller: &Caller, number: PhoneHash) -> unlisted::Result<()> {
//! index.update(|_| Ok(()))?;
//! # Ok(())
//! # }
//! ```
//!
//! A `Discovery` has no `set_opt_ins`.
//!
//! ```compile_fail
//! # #[allow(unused_imports)]
//! # use unlisted::{AccountId, Caller, Discovery, Index, OptIns, PhoneHash, Purpose};
//! # fn twin(index: &Index, discovery: &Discovery, caller: &Caller, number: PhoneHash) -> unlisted::Result<()> {
//! discovery.set_opt_ins(number, AccountId::from(1), OptIns::empty(), 1)?;
//! # Ok(())
//! # }
//! ```
//!
//! ```
//! # #[allow(unused_imports)]
//! # use unlisted::{AccountId, Caller, Discovery, Index, OptIns, PhoneHash, Purpose};
//! # fn twin(index: &Index, discovery: &Discovery, caller: &Caller, number: PhoneHash) -> unlisted::Result<()> {
//! index.set_opt_ins(number, AccountId::from(1), OptIns::empty(), 1)?;
//! # Ok(())
//! # }
//! ```
//!
//! A `Discovery` has no `erase_account`.
//!
//! ```compile_fail
//! # #[allow(unused_imports)]
//! # use unlisted::{AccountId, Caller, Discovery, Index, OptIns, PhoneHash, Purpose};
//! # fn twin(index: &Index, discovery: &Discovery, caller: &Caller, number: PhoneHash) -> unlisted::Result<()> {
//! discovery.erase_account(AccountId::from(1))?;
//! # Ok(())
//! # }
//! ```
//!
//! ```
//! # #[allow(unused_imports)]
//! # use unlisted::{AccountId, Caller, Discovery, Index, OptIns, PhoneHash, Purpose};
//! # fn twin(index: &Index, discovery: &Discovery, caller: &Caller, number: PhoneHash) -> unlisted::Result<()> {
//! index.erase_account(AccountId::from(1))?;
//! # Ok(())
//! # }
//! ```
//!
//! A `Discovery` has no `inspector`.
//!
//! ```compile_fail
//! # #[allow(unused_imports)]
//! # use unlisted::{AccountId, Caller, Discovery, Index, OptIns, PhoneHash, Purpose};
//! # fn twin(index: &Index, discovery: &Discovery, caller: &Caller, number: PhoneHash) -> unlisted::Result<()> {
//! discovery.inspector();
//! # Ok(())
//! # }
//! ```
//!
//! ```
//! # #[allow(unused_imports)]
//! # use unlisted::{AccountId, Caller, Discovery, Index, OptIns, PhoneHash, Purpose};
//! # fn twin(index: &Index, discovery: &Discovery, caller: &Caller, number: PhoneHash) -> unlisted::Result<()> {
//! index.inspector();
//! # Ok(())
//! # }
//! ```
//!
//! A `Discovery` has no `forget_caller`.
//!
//! ```compile_fail
//! # #[allow(unused_imports)]
//! # use unlisted::{AccountId, Caller, Discovery, Index, OptIns, PhoneHash, Purpose};
//! # fn twin(index: &Index, discovery: &Discovery, caller: &Caller, number: PhoneHash) -> unlisted::Result<()> {
//! discovery.forget_caller(caller)?;
//! # Ok(())
//! # }
//! ```
//!
//! ```
//! # #[allow(unused_imports)]
//! # use unlisted::{AccountId, Caller, Discovery, Index, OptIns, PhoneHash, Purpose};
//! # fn twin(index: &Index, discovery: &Discovery, caller: &Caller, number: PhoneHash) -> unlisted::Result<()> {
//! index.forget_caller(caller)?;
//! # Ok(())
//! # }
//! ```
//!
//! A `Discovery` has no `import`.
//!
//! ```compile_fail
//! # #[allow(unused_imports)]
//! # use unlisted::{AccountId, Caller, Discovery, Index, OptIns, PhoneHash, Purpose};
//! # fn twin(index: &Index, discovery: &Discovery, caller: &Caller, number: PhoneHash) -> unlisted::Result<()> {
//! discovery.import([])?;
//! # Ok(())
//! # }
//! ```
//!
//! ```
//! # #[allow(unused_imports)]
//! # use unlisted::{AccountId, Caller, Discovery, Index, OptIns, PhoneHash, Purpose};
//! # fn twin(index: &Index, discovery: &Discovery, caller: &Caller, number: PhoneHash) -> unlisted::Result<()> {
//! index.import([])?;
//! # Ok(())
//! # }
//! ```
//!
//! A `Discovery` has no `fold`.
//!
//! ```compile_fail
//! # #[allow(unused_imports)]
//! # use unlisted::{AccountId, Caller, Discovery, Index, OptIns, PhoneHash, Purpose};
//! # fn twin(index: &Index, discovery: &Discovery, caller: &Caller, number: PhoneHash) -> unlisted::Result<()> {
//! discovery.fold()?;
//! # Ok(())
//! # }
//! ```
//!
//! ```
//! # #[allow(unused_imports)]
//! # use unlisted::{AccountId, Caller, Discovery, Index, OptIns, PhoneHash, Purpose};
//! # fn twin(index: &Index, discovery: &Discovery, caller: &Caller, number: PhoneHash) -> unlisted::Result<()> {
//! index.fold()?;
//! # Ok(())
//! # }
//! ```
//!
//! And the index inside it stays there.
//!
//! ```compile_fail
//! # #[allow(unused_imports)]
//! # use unlisted::{AccountId, Caller, Discovery, Index, OptIns, PhoneHash, Purpose};
//! # fn twin(index: &Index, discovery: &Discovery, caller: &Caller, number: PhoneHash) -> unlisted::Result<()> {
//! let _ = &discovery.index;
//! # Ok(())
//! # }
//! ```
//!
//! ```
//! # #[allow(unused_imports)]
//! # use unlisted::{AccountId, Caller, Discovery, Index, OptIns, PhoneHash, Purpose};
//! # fn twin(index: &Index, discovery: &Discovery, caller: &Caller, number: PhoneHash) -> unlisted::Result<()> {
//! let _ = &discovery.quotas();
//! # Ok(())
//! # }
//! ```
