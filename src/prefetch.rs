//! Asking the memory for a cache line ahead of its use.

#![expect(unsafe_code, reason = "a prefetch takes a pointer; the argument is at the call")]

/// Asks for the line that an item begins in, without waiting for it.
#[inline(always)]
pub(crate) fn ask_for<T>(item: &T) {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: a prefetch is a hint: it reads no value, raises no fault whatever the address, and here the address is
    // that of a borrowed item. Its instruction, SSE, is part of every x86-64 processor.
    unsafe {
        use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        _mm_prefetch::<_MM_HINT_T0>(std::ptr::from_ref(item).cast());
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = item;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn asking_changes_nothing() {
        let items = [[7_u8; 64]; 3];
        items.iter().for_each(ask_for);
        ask_for(&());
        ask_for(&[0_u8; 0]);
        assert_eq!(items, [[7; 64]; 3]);
    }
}
