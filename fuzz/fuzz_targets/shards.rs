#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| unlisted_fuzz::shards(data));
