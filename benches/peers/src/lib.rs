//! `unlisted` beside other embedded stores, on the same keys, values and questions.
//!
//! Every contestant runs in processes of its own: one that loads, one that opens and answers, so that neither memory nor
//! caches of one are another's. A store in memory does both in one process.

pub mod args;
pub mod child;
pub mod machine;
pub mod parent;
pub mod population;
pub mod report;
pub mod store;
pub mod stores;
