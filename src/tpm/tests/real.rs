//! With the swtpm of this machine; `cargo lab test` runs them.

use std::fs;
use std::path::Path;
use std::process::Command;

use super::*;

/// `TPM2_PCR_Extend` of PCR 16 with a SHA-256 digest of ones, and `TPM2_PCR_Read` of it.
fn extend() -> Vec<u8> {
    let head = [0x80, 2, 0, 0, 0, 65, 0, 0, 1, 0x82, 0, 0, 0, 16, 0, 0, 0, 9, 0x40, 0, 0, 9, 0, 0, 0, 0, 0];
    [&head[..], &[0, 0, 0, 1, 0, 0x0b], &[1; 32]].concat()
}
const READ: [u8; 20] = [0x80, 1, 0, 0, 0, 20, 0, 0, 1, 0x7e, 0, 0, 0, 1, 0, 0x0b, 3, 0, 0, 1];

fn pcr(guest: &mut Guest) -> Vec<u8> {
    let response = guest.execute(&READ);
    assert_eq!(response[6..10], [0; 4]);
    response[response.len() - 32..].to_vec()
}

/// `TPM2_NV_DefineSpace` of an index with 8 bytes for who knows no password.
const DEFINE: [u8; 45] = [
    0x80, 2, 0, 0, 0, 45, 0, 0, 1, 0x2a, 0x40, 0, 0, 1, 0, 0, 0, 9, 0x40, 0, 0, 9, 0, 0, 0, 0, 0, 0, 0, 0,
    14, 0x01, 0x50, 0, 0, 0, 0x0b, 0, 4, 0, 4, 0, 0, 0, 8,
];

#[test]
#[ignore = "needs swtpm"]
fn a_reset_forgets_pcrs_and_a_new_run_does_not_forget_nv() {
    let directory = TempDir::new_with_prefix("/tmp/busman-tpm").unwrap();
    let source = TpmSource::State(directory.as_path().join("state"));
    {
        let service = Service::start(&source).unwrap();
        let mut guest = Guest::new(&service);
        assert_eq!(guest.execute(&STARTUP), SUCCESS);
        assert_eq!(guest.execute(&GET_RANDOM)[6..12], [0, 0, 0, 0, 0, 16]);
        assert_eq!(pcr(&mut guest), [0; 32]);
        assert_eq!(guest.execute(&extend())[6..10], [0; 4]);
        assert_ne!(pcr(&mut guest), [0; 32]);
        assert_eq!(guest.execute(&DEFINE)[6..10], [0; 4]);
        let mut next = Guest::new(&service);
        assert_eq!(next.execute(&STARTUP), SUCCESS, "a reset takes the power");
        assert_eq!(pcr(&mut next), [0; 32]);
    }
    let service = Service::start(&source).unwrap();
    let mut guest = Guest::new(&service);
    assert_eq!(guest.execute(&STARTUP), SUCCESS);
    let defined = 0x14c_u32.to_be_bytes();
    assert_eq!(guest.execute(&DEFINE)[6..10], defined, "TPM_RC_NV_DEFINED");
    guest.write_port(port::SET_OPERATION, CLEAR);
    let mut cleared = Guest::new(&service);
    assert_eq!(cleared.execute(&STARTUP), SUCCESS);
    assert_eq!(cleared.read_port(port::LAST_RESULT), 0);
    assert_eq!(cleared.execute(&DEFINE)[6..10], [0; 4], "the owner's indices are gone");
}

#[test]
#[ignore = "needs swtpm"]
fn pcr_banks_are_set_by_a_reset() {
    let directory = TempDir::new_with_prefix("/tmp/busman-tpm").unwrap();
    let service = Service::start(&TpmSource::State(directory.as_path().to_owned())).unwrap();
    let mut guest = Guest::new(&service);
    guest.write_port(port::HASH_ALGORITHMS, 0xf);
    guest.write_port(port::SET_OPERATION_ARGUMENT, 1 << 2);
    guest.write_port(port::SET_OPERATION, 23);
    let mut next = Guest::new(&service);
    assert_eq!(next.execute(&STARTUP), SUCCESS);
    assert_eq!(next.read_port(port::LAST_RESULT), 0);
    // No SHA-256 bank: no digest is given.
    assert_eq!(next.execute(&READ)[24..], [0; 4]);
}

#[test]
#[ignore = "needs swtpm"]
fn a_state_that_another_machine_uses_is_refused_with_swtpms_words() {
    let directory = TempDir::new_with_prefix("/tmp/busman-tpm").unwrap();
    let source = TpmSource::State(directory.as_path().to_owned());
    let _first = Service::start(&source).unwrap();
    let error = Service::start(&source).unwrap_err();
    assert!(error.to_string().starts_with("swtpm fails: "), "{error}");
    assert!(error.to_string().contains("lock"), "{error}");
}

#[test]
#[ignore = "needs swtpm"]
fn a_swtpm_that_is_killed_is_started_again_by_a_reset() {
    let directory = TempDir::new_with_prefix("/tmp/busman-tpm").unwrap();
    let service = Service::start(&TpmSource::State(directory.as_path().to_owned())).unwrap();
    let mut guest = Guest::new(&service);
    assert_eq!(guest.execute(&STARTUP), SUCCESS);
    kill_child_with(directory.as_path());
    assert_eq!(guest.execute(&GET_RANDOM), FAILURE);
    let mut next = Guest::new(&service);
    assert_eq!(next.execute(&STARTUP), SUCCESS);
}

/// Ends the swtpm whose state is there.
fn kill_child_with(state: &Path) {
    let state = state.display().to_string();
    let ours = |entry: &fs::DirEntry| {
        let line = fs::read_to_string(entry.path().join("cmdline")).unwrap_or_default();
        line.starts_with("swtpm") && line.contains(&state)
    };
    let process = fs::read_dir("/proc").unwrap().flatten().find(ours).unwrap();
    let killed = Command::new("kill").arg("-KILL").arg(process.file_name()).status().unwrap();
    assert!(killed.success());
}
