//! Asking the memory for a cache line ahead of its use.

#![cfg_attr(
    target_arch = "x86_64",
    expect(unsafe_code, reason = "a prefetch takes a pointer; the argument is at the call")
)]

/// Items whose lines are asked for together, while an earlier block is worked on: few enough for a processor to have all of
/// them under way, and a short loop, so that nothing holds them up.
pub(crate) const BLOCK: usize = 16;

/// The items of the block that begins at `at`: fewer at the end, none behind it.
#[inline(always)]
pub(crate) fn block<T>(items: &[T], at: usize) -> &[T] {
    items.get(at..items.len().min(at + BLOCK)).unwrap_or_default()
}

/// Asks for the line that an item begins in, without waiting for it.
#[inline(always)]
pub(crate) fn ask_for<T>(item: &T) {
    ask_for_line(std::ptr::from_ref(item).cast());
}

/// Asks for the line of a byte of these, or of where it would be behind them.
#[inline(always)]
pub(crate) fn ask_for_byte(bytes: &[u8], at: usize) {
    ask_for_line(bytes.as_ptr().wrapping_add(at));
}

#[inline(always)]
fn ask_for_line(at: *const u8) {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: a prefetch is a hint: it reads no value and raises no fault, whatever the address. Its instruction, SSE, is
    // part of every x86-64 processor.
    unsafe {
        use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        _mm_prefetch::<_MM_HINT_T0>(at.cast());
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = at;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_are_the_items_in_order() {
        let items: Vec<usize> = (0..BLOCK * 2 + 3).collect();
        let blocks: Vec<&[usize]> = (0..items.len() + BLOCK).step_by(BLOCK).map(|at| block(&items, at)).collect();
        assert_eq!(blocks.concat(), items);
        assert!(blocks.iter().rev().skip(2).all(|block| block.len() == BLOCK));
        assert!(block(&items, 1_000).is_empty());
    }

    #[test]
    fn asking_changes_nothing() {
        let items = [[7_u8; 64]; 3];
        items.iter().for_each(ask_for);
        ask_for(&());
        ask_for(&[0_u8; 0]);
        for at in [0, 63, 64, 4_096, usize::MAX] {
            ask_for_byte(&items[0], at);
            ask_for_byte(&[], at);
        }
        assert_eq!(items, [[7; 64]; 3]);
    }
}
