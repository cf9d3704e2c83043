//! A guest's initial configuration: `.reg` files become hives, and files are looked at that should be hives.
//!
//! Whatever was understood of a `.reg` file can be written, and what was written is a hive, of the same bytes each time.
//!
//! Run it with `cargo fuzz run imc` (nightly, or `RUSTC_BOOTSTRAP=1`).

#![no_main]

use busman::imc::hive::{self, HiveError};
use busman::imc::key::Key;
use busman::imc::reg;
use libfuzzer_sys::fuzz_target;

const TITLE: &str = "Windows Registry Editor Version 5.00\n";

fuzz_target!(|bytes: &[u8]| {
    let _ = hive::check(bytes);
    let mut root = Key::default();
    let _ = reg::merge(&mut root, bytes);
    // The tree has what was in front of the first mistake.
    let _ = reg::merge(&mut root, &[TITLE.as_bytes(), b"[HKLM\\SYSTEM]\n", bytes].concat());
    match hive::write(&root) {
        Ok(written) => {
            assert_eq!(hive::check(&written), Ok(()));
            assert!(hive::write(&root).is_ok_and(|again| again == written));
        }
        Err(error) => assert_eq!(error, HiveError::TooLarge),
    }
});
