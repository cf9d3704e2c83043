//! The device as its firmware uses it: commands in guest memory, registers, and a guest that means no good.

use super::nvram::protocol::vendor;
use super::nvram::services::Nowhere;
use super::nvram::variable::{DATA_MAX, NAME_MAX};
use super::nvram::{Store, VariableId, Variables};
use super::protocol::{
    BOOT_EVENT, CRYPTO_RANDOM, CryptoCommand, EfiStatus, EventChannel, NvramDebugString, NvramHeader,
    NvramQuery, NvramVariable, TimeCommand, nvram_command, register,
};
use super::watchdog::{Watchdog, tests::Recorder};
use super::{Bios, advanced_log, memory};
use crate::guid::Guid;
use crate::legacy::PortDevice;
use crate::mem::GuestRam;
use std::sync::{Arc, Mutex};
use vm_memory::GuestAddress;
use zerocopy::little_endian::U32;
use zerocopy::{FromBytes, FromZeros, Immutable, IntoBytes, KnownLayout};

const RAM: usize = 4 << 20;
/// Where commands, names and data are; the command crosses a page.
const COMMAND: u64 = 0x1ff8;
const NAME: u64 = 0x8000;
const DATA: u64 = 0x10000;
const VENDOR: Guid = Guid::from_bytes([0xcc; 16]);

struct Guest {
    ram: GuestRam,
    bios: Bios,
    variables: Arc<Mutex<Variables>>,
    alarm: Recorder,
}

impl Guest {
    fn new() -> Self {
        let ram = GuestRam::from_ranges(&[(GuestAddress(0), RAM)]).unwrap();
        let store = Store::new(Guid::from_bytes([0x61; 16]));
        let variables = Arc::new(Mutex::new(Variables::new(store, Box::new(Nowhere))));
        let alarm = Recorder::default();
        let watchdog = Watchdog::new(Box::new(alarm.clone()), false);
        let bios = Bios::new(ram.clone(), Arc::clone(&variables), watchdog);
        Guest { ram, bios, variables, alarm }
    }

    fn write(&mut self, register: u32, data: u32) {
        self.bios.write(0, &register.to_le_bytes());
        self.bios.write(4, &data.to_le_bytes());
    }

    fn read(&mut self, register: u32) -> u32 {
        self.bios.write(0, &register.to_le_bytes());
        let mut data = [0xff; 4];
        self.bios.read(4, &mut data);
        u32::from_le_bytes(data)
    }

    /// Gives an NVRAM command; its status and what is in its place afterwards.
    fn command<T: IntoBytes + Immutable + KnownLayout + FromBytes>(
        &mut self,
        command: u32,
        body: &T,
    ) -> (u64, T) {
        let header = NvramHeader { command: U32::new(command), status: EfiStatus::DeviceError.code() };
        memory::write(&self.ram, COMMAND, &header).unwrap();
        memory::write(&self.ram, COMMAND + 12, body).unwrap();
        self.write(register::NVRAM_COMMAND, COMMAND as u32);
        let header: NvramHeader = memory::read(&self.ram, COMMAND).unwrap();
        (header.status.get(), memory::read(&self.ram, COMMAND + 12).unwrap())
    }

    fn variable(&mut self, name: &[u8], vendor: Guid, attributes: u32, data_bytes: u32) -> NvramVariable {
        memory::write_bytes(&self.ram, NAME, name).unwrap();
        NvramVariable {
            attributes: U32::new(attributes),
            name_address: NAME.into(),
            name_bytes: U32::new(name.len() as u32),
            vendor,
            data_address: DATA.into(),
            data_bytes: U32::new(data_bytes),
        }
    }

    fn set(&mut self, name: &str, data: &[u8]) -> u64 {
        memory::write_bytes(&self.ram, DATA, data).unwrap();
        let body = self.variable(&wide(name), VENDOR, 7, data.len() as u32);
        self.command(nvram_command::SET, &body).0
    }

    fn bytes(&self, address: u64, len: usize) -> Vec<u8> {
        memory::read_bytes(&self.ram, address, len).unwrap()
    }
}

/// A name as the guest has it.
fn wide(name: &str) -> Vec<u8> {
    name.encode_utf16().chain([0]).flat_map(u16::to_le_bytes).collect()
}

#[test]
fn a_variable_goes_in_and_comes_out() {
    let mut guest = Guest::new();
    assert_eq!(guest.set("Boot0000", b"an option"), 0);
    memory::write_bytes(&guest.ram, DATA, &[0; 16]).unwrap();
    let body = guest.variable(&wide("Boot0000"), VENDOR, 0, 9);
    let (status, answer) = guest.command(nvram_command::GET, &body);
    assert_eq!((status, answer.attributes.get(), answer.data_bytes.get()), (0, 7, 9));
    assert_eq!(guest.bytes(DATA, 10), b"an option\0");
    // Too small a buffer: the size and the attributes are told, and nothing is written.
    memory::write_bytes(&guest.ram, DATA, &[0; 16]).unwrap();
    let body = guest.variable(&wide("Boot0000"), VENDOR, 0, 8);
    let (status, answer) = guest.command(nvram_command::GET, &body);
    assert_eq!((status, answer.attributes.get(), answer.data_bytes.get()), (5, 7, 9));
    assert_eq!(guest.bytes(DATA, 16), [0; 16]);
    let body = guest.variable(&wide("Boot0001"), VENDOR, 0, 9);
    assert_eq!(guest.command(nvram_command::GET, &body).0, 14);
}

#[test]
fn names_are_walked_as_the_firmware_does_it() {
    let mut guest = Guest::new();
    assert_eq!(guest.set("One", b"1"), 0);
    assert_eq!(guest.set("Three", b"3"), 0);
    // The whole buffer counts, the name in it ends at its NUL.
    let mut buffer = vec![0xee; NAME_MAX];
    buffer[..2].fill(0);
    let body = guest.variable(&buffer, VENDOR, 0, 0);
    let (mut status, mut answer) = guest.command(nvram_command::FIRST_NAME, &body);
    let mut names = Vec::new();
    while status == 0 {
        let bytes = guest.bytes(NAME, answer.name_bytes.get() as usize);
        let units: Vec<u16> = bytes.as_chunks().0.iter().map(|&unit| u16::from_le_bytes(unit)).collect();
        assert_eq!(units.last(), Some(&0));
        names.push((answer.vendor, String::from_utf16(&units[..units.len() - 1]).unwrap()));
        answer.name_bytes = U32::new(NAME_MAX as u32);
        (status, answer) = guest.command(nvram_command::NEXT_NAME, &answer);
    }
    assert_eq!(status, 14);
    let mine: Vec<&str> = names.iter().filter(|name| name.0 == VENDOR).map(|name| name.1.as_str()).collect();
    assert_eq!(mine, ["One", "Three"]);
    assert_eq!(names.len(), 2 + 5);
    // NEXT_NAME with an empty name is FIRST_NAME.
    let body = guest.variable(&buffer, VENDOR, 0, 0);
    let (status, answer) = guest.command(nvram_command::NEXT_NAME, &body);
    assert_eq!((status, answer.vendor), (0, names[0].0));
}

#[test]
fn a_name_that_does_not_fit_tells_its_size_and_changes_nothing() {
    let mut guest = Guest::new();
    guest.set("A", b"1");
    guest.set("Longer", b"1");
    let body = guest.variable(&wide("A"), VENDOR, 0, 0);
    let (status, answer) = guest.command(nvram_command::NEXT_NAME, &body);
    assert_eq!((status, answer.name_bytes.get(), answer.vendor), (5, 14, VENDOR));
    assert_eq!(guest.bytes(NAME, 4), wide("A"));
    // A name that is not there, one without a NUL, none at all.
    for name in [wide("B"), vec![b'A', 0], vec![]] {
        let body = guest.variable(&name, VENDOR, 0, 0);
        assert_eq!(guest.command(nvram_command::NEXT_NAME, &body).0, 2, "{name:?}");
    }
}

#[test]
fn room_and_the_end_of_boot_services() {
    let mut guest = Guest::new();
    let query = NvramQuery { attributes: U32::new(7), ..NvramQuery::new_zeroed() };
    let (status, answer) = guest.command(nvram_command::QUERY_INFO, &query);
    assert_eq!((status, answer.maximum_variable.get()), (0, DATA_MAX as u64));
    assert_eq!(answer.maximum_storage, answer.remaining_storage);
    let query = NvramQuery { attributes: U32::new(0), ..query };
    assert_eq!(guest.command(nvram_command::QUERY_INFO, &query).0, 2);
    let query = NvramQuery { attributes: U32::new(3), ..query };
    assert_eq!(guest.command(nvram_command::QUERY_INFO, &query).0, 0);
    assert_eq!(guest.command(nvram_command::SIGNAL_RUNTIME, &[0u8; 8]).0, 0);
    assert_eq!(guest.command(nvram_command::SIGNAL_RUNTIME, &[0u8; 8]).0, 0);
    assert_eq!(guest.command(nvram_command::QUERY_INFO, &query).0, 2);
    assert_eq!(guest.command(7, &query).0, 3, "no such command");
}

#[test]
fn a_reset_machine_is_before_boot_services_end_again() {
    let mut guest = Guest::new();
    guest.command(nvram_command::SIGNAL_RUNTIME, &[0u8; 8]);
    let watchdog = Watchdog::new(Box::new(Recorder::default()), false);
    guest.bios = Bios::new(guest.ram.clone(), Arc::clone(&guest.variables), watchdog);
    let query = NvramQuery { attributes: U32::new(3), ..NvramQuery::new_zeroed() };
    assert_eq!(guest.command(nvram_command::QUERY_INFO, &query).0, 0);
}

#[test]
fn memory_that_is_not_there_is_an_error_and_no_more() {
    let mut guest = Guest::new();
    guest.set("A", b"value");
    let good = guest.variable(&wide("A"), VENDOR, 7, 5);
    for address in [RAM as u64, RAM as u64 - 1, u64::MAX, u64::MAX - 3, 1 << 40] {
        for command in [nvram_command::GET, nvram_command::SET, nvram_command::NEXT_NAME] {
            let bad_name = NvramVariable { name_address: address.into(), ..good };
            assert_ne!(guest.command(command, &bad_name).0, 0, "{command} {address:#x}");
        }
        for command in [nvram_command::GET, nvram_command::SET] {
            let bad_data = NvramVariable { data_address: address.into(), ..good };
            assert_eq!(guest.command(command, &bad_data).0, 7, "{command} {address:#x}");
        }
        let text = NvramDebugString { address: address.into(), bytes: U32::new(8), reserved: U32::new(0) };
        assert_eq!(guest.command(nvram_command::DEBUG_STRING, &text).0, 7);
    }
    // Null is refused as a parameter.
    for bad in [
        NvramVariable { name_address: 0.into(), ..good },
        NvramVariable { data_address: 0.into(), ..good },
        NvramVariable { name_bytes: U32::new(0), ..good },
        NvramVariable { name_bytes: U32::new(3), ..good },
        NvramVariable { data_bytes: U32::new(DATA_MAX as u32 + 1), ..good },
        NvramVariable { data_bytes: U32::new(u32::MAX), ..good },
    ] {
        assert_eq!(guest.command(nvram_command::SET, &bad).0, 2, "{bad:?}");
    }
    assert_eq!(guest.variables.lock().unwrap().store().iter().len(), 1);
    // A command that is not in RAM has no place for its status.
    for address in [RAM as u32, RAM as u32 - 11, u32::MAX] {
        for register in 0..0x40 {
            guest.write(register, address);
        }
    }
}

#[test]
fn random_bytes_come_in_eights_at_most() {
    let mut guest = Guest::new();
    let mut ask = |command, bytes| {
        let command = CryptoCommand {
            command: U32::new(command),
            status: EfiStatus::DeviceError.code(),
            address: DATA.into(),
            bytes: U32::new(bytes),
        };
        memory::write_bytes(&guest.ram, DATA, &[0; 16]).unwrap();
        memory::write(&guest.ram, COMMAND, &command).unwrap();
        guest.write(register::CRYPTO_COMMAND, COMMAND as u32);
        let answer: CryptoCommand = memory::read(&guest.ram, COMMAND).unwrap();
        (answer.status.get(), guest.bytes(DATA, 16))
    };
    let (first, second) = (ask(CRYPTO_RANDOM, 8), ask(CRYPTO_RANDOM, 8));
    assert_eq!((first.0, &first.1[8..]), (0, &[0; 8][..]));
    assert_ne!(first.1, second.1);
    assert_eq!(ask(CRYPTO_RANDOM, 9), (2, vec![0; 16]));
    assert_eq!(ask(CRYPTO_RANDOM, 0), (0, vec![0; 16]));
    assert_eq!(ask(0, 8), (3, vec![0; 16]));
}

#[test]
fn the_generation_id_goes_where_both_halves_say() {
    let mut guest = Guest::new();
    assert!(!guest.bios.change_generation(Guid::from_bytes([1; 16])).unwrap(), "nobody wants it yet");
    guest.write(register::GENERATION_ID_LOW, 0x3000);
    assert_eq!(guest.bytes(0x3000, 16), [0; 16]);
    guest.write(register::GENERATION_ID_HIGH, 0);
    assert_eq!(guest.bytes(0x3000, 17), [&[1; 16][..], &[0]].concat());
    assert!(guest.bios.change_generation(Guid::from_bytes([2; 16])).unwrap());
    assert_eq!(guest.bytes(0x3000, 16), [2; 16]);
    guest.write(register::GENERATION_ID_HIGH, 1);
    assert!(!guest.bios.change_generation(Guid::from_bytes([3; 16])).unwrap());
    let mut guest = Guest::new();
    guest.write(register::GENERATION_ID_HIGH, 0);
    guest.write(register::GENERATION_ID_LOW, 0x3000);
    assert_eq!(guest.bytes(0x3000, 16), [0x61; 16], "the store's");
}

#[test]
fn registers_answer_as_firmware_expects() {
    let mut guest = Guest::new();
    assert_eq!(guest.read(register::NFIT_SIZE), 0);
    assert_eq!(guest.read(register::WATCHDOG_RESOLUTION), 1);
    assert_eq!(guest.read(0x99), u32::MAX);
    assert_eq!(guest.read(register::NVRAM_COMMAND), u32::MAX);
    let mut selected = [0; 4];
    guest.bios.read(0, &mut selected);
    assert_eq!(u32::from_le_bytes(selected), register::NVRAM_COMMAND);
    guest.write(register::WATCHDOG_CONFIG, 0);
    guest.write(register::BOOT_FINALIZE, 46);
    guest.write(0x99, 1);
    assert_eq!(guest.alarm.take(), [None], "at ExitBootServices, as firmware does it");
    // Half a register is none.
    for data in [&[1][..], &[1, 2]] {
        guest.bios.write(0, data);
        guest.bios.write(4, data);
        let mut read = vec![0xff; data.len()];
        guest.bios.read(4, &mut read);
        assert_eq!(read, vec![0xff; data.len()]);
    }
}

#[test]
fn a_memory_overwrite_request_becomes_its_variable() {
    let mut guest = Guest::new();
    guest.write(register::MOR_SET, 0x101);
    let id = VariableId::new(vendor::MEMORY_OVERWRITE, "MemoryOverwriteRequestControl").unwrap();
    assert_eq!(guest.variables.lock().unwrap().get(&id).unwrap().data, [1]);
    assert_eq!(guest.read(register::MOR_SET), 0, "the ACPI method gives this to the OS as success");
}

#[test]
fn the_time_is_told_and_not_set() {
    let mut guest = Guest::new();
    guest.write(register::GET_TIME, DATA as u32);
    let answer: TimeCommand = memory::read(&guest.ram, DATA).unwrap();
    assert_eq!(answer.status.get(), 0);
    assert!(answer.time.year.get() > 2024 && (1..=12).contains(&answer.time.month));
    guest.write(register::SET_TIME, DATA as u32);
    let refused: TimeCommand = memory::read(&guest.ram, DATA).unwrap();
    assert_eq!(refused.status.get(), 1 << 63 | 3);
}

#[test]
fn logs_of_any_size_are_read_within_bounds() {
    let mut guest = Guest::new();
    let mut channel = EventChannel::new_zeroed();
    for bytes in [0, 64, 16 << 10, u32::MAX] {
        channel.data_bytes = U32::new(bytes);
        channel.lost = U32::new(bytes);
        memory::write(&guest.ram, DATA, &channel).unwrap();
        memory::write_bytes(&guest.ram, DATA + 28, &[BOOT_EVENT as u8; 64]).unwrap();
        guest.write(register::EVENT_LOG_FLUSH, DATA as u32);
    }
    let text = advanced_log::tests::entry(0x40, b"hello\n");
    memory::write_bytes(&guest.ram, DATA + 80, &text).unwrap();
    memory::write(&guest.ram, DATA, &advanced_log::tests::header(text.len())).unwrap();
    for address in [0, u32::MAX, DATA as u32, RAM as u32, DATA as u32] {
        guest.write(register::ADVANCED_LOG_ADDRESS, address);
        guest.write(register::ADVANCED_LOG_PROCESS, 1);
    }
}
