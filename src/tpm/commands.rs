//! The few commands that the host itself gives a TPM 2.0 (TCG TPM 2.0 Library, part 3), and how they ended.
//!
//! They carry out a [presence operation](devices::tpm::presence::Operation) between a machine's end and the next one's
//! start, when the platform's authorization is empty.

use devices::tpm::presence::Operation;
use devices::tpm::protocol::{CommandHeader, NO_SESSIONS, ResponseHeader};
use zerocopy::{FromBytes, IntoBytes};

/// `TPM_ST_SESSIONS`: there is an authorization.
const SESSIONS: u16 = 0x8002;
/// `TPM_RH_PLATFORM`.
const PLATFORM: [u8; 4] = 0x4000_000c_u32.to_be_bytes();
/// Size of the authorization, `TPM_RS_PW`, no nonce, no attributes, an empty password.
const EMPTY_PASSWORD: [u8; 13] = [0, 0, 0, 9, 0x40, 0, 0, 9, 0, 0, 0, 0, 0];
/// `TPM_SU_CLEAR`, and `NO`.
const CLEAR: [u8; 2] = [0, 0];
const NO: [u8; 1] = [0];

mod code {
    pub const CLEAR: u32 = 0x126;
    pub const CLEAR_CONTROL: u32 = 0x127;
    pub const PCR_ALLOCATE: u32 = 0x12b;
    pub const STARTUP: u32 = 0x144;
    pub const SHUTDOWN: u32 = 0x145;
}

/// `TPM_ALG_ID`s of PCR banks, in the order of their bits.
const BANKS: [u16; 5] = [0x04, 0x0b, 0x0c, 0x0d, 0x12];
/// A bank has 24 PCRs.
const ALL_PCRS: [u8; 3] = [0xff; 3];
const NO_PCRS: [u8; 3] = [0; 3];

/// The TPM wakes without memory of what ran before.
pub fn startup() -> Vec<u8> {
    command(NO_SESSIONS, code::STARTUP, &[&CLEAR])
}

/// The TPM keeps what it has to, for an orderly end.
pub fn shutdown() -> Vec<u8> {
    command(NO_SESSIONS, code::SHUTDOWN, &[&CLEAR])
}

/// What carries out an operation, one after the other; nothing if it would leave a TPM without PCRs.
pub fn of(operation: Operation) -> Vec<Vec<u8>> {
    match operation {
        // An owner may have forbidden it; the platform allows it again.
        Operation::Clear => vec![
            command(SESSIONS, code::CLEAR_CONTROL, &[&PLATFORM, &EMPTY_PASSWORD, &NO]),
            command(SESSIONS, code::CLEAR, &[&PLATFORM, &EMPTY_PASSWORD]),
        ],
        Operation::SetPcrBanks { wanted, known } if wanted & known != 0 => vec![allocate(wanted, known)],
        Operation::SetPcrBanks { .. } => Vec::new(),
    }
}

fn allocate(wanted: u32, known: u32) -> Vec<u8> {
    let has = |banks: u32, bit: usize| banks >> bit & 1 != 0;
    let mut selections = Vec::new();
    let mut count = 0_u32;
    for (bit, bank) in BANKS.iter().enumerate().filter(|&(bit, _)| has(known, bit)) {
        selections.extend(bank.to_be_bytes());
        selections.push(3);
        selections.extend(if has(wanted, bit) { ALL_PCRS } else { NO_PCRS });
        count += 1;
    }
    command(SESSIONS, code::PCR_ALLOCATE, &[&PLATFORM, &EMPTY_PASSWORD, &count.to_be_bytes(), &selections])
}

fn command(tag: u16, code: u32, parts: &[&[u8]]) -> Vec<u8> {
    let size = size_of::<CommandHeader>() + parts.iter().map(|part| part.len()).sum::<usize>();
    let size = u32::try_from(size).unwrap_or(u32::MAX);
    let header = CommandHeader { tag: tag.into(), size: size.into(), code: code.into() };
    [header.as_bytes(), &parts.concat()].concat()
}

/// The response code of a TPM 2.0, or `None` if it is none.
pub fn response_code(response: &[u8]) -> Option<u32> {
    let (header, _) = ResponseHeader::read_from_prefix(response).ok()?;
    [NO_SESSIONS, SESSIONS].contains(&header.tag.get()).then(|| header.code.get())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_are_as_long_as_they_say() {
        let clear = of(Operation::Clear);
        let banks = of(Operation::SetPcrBanks { wanted: 2, known: 7 });
        for command in [startup(), shutdown()].iter().chain(&clear).chain(&banks) {
            let (header, _) = CommandHeader::read_from_prefix(command).unwrap();
            assert_eq!(header.size.get() as usize, command.len(), "{command:02x?}");
        }
        assert_eq!(startup(), [0x80, 1, 0, 0, 0, 12, 0, 0, 1, 0x44, 0, 0]);
        assert_eq!(clear.iter().map(Vec::len).collect::<Vec<_>>(), [28, 27]);
        let selections = [0, 0, 0, 3, 0, 4, 3, 0, 0, 0, 0, 11, 3, 255, 255, 255, 0, 12, 3, 0, 0, 0];
        assert_eq!(banks[0][27..], selections);
    }

    #[test]
    fn no_operation_leaves_a_tpm_without_pcrs() {
        for (wanted, known) in [(0, 7), (8, 7), (0, 0)] {
            assert!(of(Operation::SetPcrBanks { wanted, known }).is_empty());
        }
    }
}
