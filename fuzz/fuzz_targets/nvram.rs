//! Files of variables that somebody made to do harm.
//!
//! Bytes are a file, or patches over a good one, its checksum made right again or not. Whatever it is, nothing may
//! panic, hang or take memory without bound; what is understood survives being written again, and is used.
//!
//! Run it with `cargo fuzz run nvram` (nightly, or `RUSTC_BOOTSTRAP=1`).

#![no_main]

#[path = "input.rs"]
mod input;

use std::sync::LazyLock;

use devices::firmware::nvram::protocol::{Attributes, vendor};
use devices::firmware::nvram::services::Nowhere;
use devices::firmware::nvram::variable::DATA_MAX;
use devices::firmware::nvram::{Store, Variable, VariableId, Variables, format};
use devices::guid::Guid;
use input::Input;
use libfuzzer_sys::fuzz_target;

/// Bytes of the header that the checksum does not cover, at whose end it is.
const UNCOVERED: usize = 16;

static GOOD: LazyLock<Vec<u8>> = LazyLock::new(|| {
    let mut store = Store::new(Guid::ZERO);
    for (name, vendor, len) in [
        ("BootOrder", vendor::GLOBAL, 4),
        ("PK", vendor::GLOBAL, 60),
        ("db", vendor::IMAGE_SECURITY, 76),
        ("x", Guid::ZERO, 0),
    ] {
        let id = VariableId::new(vendor, name).expect("a name");
        store.replace(&id, Some(Variable::new(Attributes::POLICY, vec![1; len]))).expect("room");
    }
    format::encode(&store)
});

fuzz_target!(|bytes: &[u8]| {
    let mut input = Input(bytes);
    let choice = input.byte();
    let mut file = if choice & 1 == 0 { GOOD.clone() } else { input.bytes(usize::MAX).to_vec() };
    for _ in 0..choice >> 4 {
        let at = usize::from(input.byte()) | usize::from(input.byte()) << 8;
        let value = input.byte();
        let len = file.len().max(1);
        if let Some(byte) = file.get_mut(at % len) {
            *byte = value;
        }
    }
    if choice & 2 == 0
        && let Some((head, covered)) = file.split_at_mut_checked(UNCOVERED)
    {
        head[UNCOVERED - 4..].copy_from_slice(&crc32c::crc32c(covered).to_le_bytes());
    }
    let Ok(store) = format::decode(&file) else { return };
    assert_eq!(format::decode(&format::encode(&store)).as_ref(), Ok(&store));
    let names: Vec<VariableId> = store.iter().map(|(id, _)| id.clone()).collect();
    let mut variables = Variables::new(store, Box::new(Nowhere));
    for id in names {
        let attributes = u32::from(input.byte());
        let len = usize::from(input.byte());
        let _ = variables.set(&id, attributes, input.bytes(len));
        let _ = variables.set_as_owner(&id, Attributes::from_bits_retain(attributes), Some(input.bytes(len)));
    }
    let mut name = None;
    while let Ok(next) = variables.next(name.as_ref()) {
        assert!(variables.get(next).is_ok_and(|variable| variable.data.len() <= DATA_MAX));
        name = Some(next.clone());
    }
});
