//! The largest piece of memory that anybody asked for: a length that is believed before the file is seen to have it shows here.

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicUsize, Ordering};

/// Far more than the options of these tests take, far less than what hostile lengths claim.
pub const LARGEST_BYTES: usize = 32 << 20;

static LARGEST: AtomicUsize = AtomicUsize::new(0);

/// The system's allocator, watched.
pub struct Watched;

// SAFETY: every call is handed to the system's allocator as it came.
unsafe impl GlobalAlloc for Watched {
    // SAFETY: the caller keeps the promises of the trait, which are those of the system's allocator.
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        note(layout.size());
        // SAFETY: as above.
        unsafe { System.alloc(layout) }
    }

    // SAFETY: as above.
    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        note(layout.size());
        // SAFETY: as above.
        unsafe { System.alloc_zeroed(layout) }
    }

    // SAFETY: as above.
    unsafe fn realloc(&self, old: *mut u8, layout: Layout, bytes: usize) -> *mut u8 {
        note(bytes);
        // SAFETY: as above.
        unsafe { System.realloc(old, layout, bytes) }
    }

    // SAFETY: as above.
    unsafe fn dealloc(&self, old: *mut u8, layout: Layout) {
        // SAFETY: as above.
        unsafe { System.dealloc(old, layout) }
    }
}

fn note(bytes: usize) {
    LARGEST.fetch_max(bytes, Ordering::Relaxed);
}

/// Fails if anything asked for more than these tests may.
#[track_caller]
pub fn check(what: &str) {
    let largest = LARGEST.load(Ordering::Relaxed);
    assert!(largest <= LARGEST_BYTES, "{what}: somebody asked for {largest} bytes at once");
}
