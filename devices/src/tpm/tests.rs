//! Plays the firmware and the OS at the registers, and a TPM that answers when it is told to.

use std::sync::Mutex;

use vm_memory::{Bytes, GuestAddress};

use super::presence::Operation;
use super::protocol::{PLATFORM_FAILURE, port, register};
use super::*;
use crate::legacy::{MmioDevice, PortDevice};
use crate::mem::{GuestRam, PAGE_SIZE};
use crate::testing::TestTpm;

const COMMANDS: u32 = 0x4000;
const RESPONSES: u64 = 0x5000;
/// `TPM2_SelfTest`.
const COMMAND: [u8; 11] = [0x80, 1, 0, 0, 0, 11, 0, 0, 1, 0x43, 1];
const RESPONSE: [u8; 10] = [0x80, 1, 0, 0, 0, 10, 0, 0, 0, 0];
const FAILURE: [u8; 10] = [0x80, 1, 0, 0, 0, 10, 0, 0, 1, 1];
const WRONG_SIZE: [u8; 10] = [0x80, 1, 0, 0, 0, 10, 0, 0, 1, 0x42];

struct Machine {
    ram: GuestRam,
    tpm: Arc<TestTpm>,
    presence: Arc<Mutex<Presence>>,
    registers: TpmRegisters,
}

impl Machine {
    /// A machine whose firmware has said nothing yet.
    fn new() -> Self {
        let ram = GuestRam::from_ranges(&[(GuestAddress(0), 8 * PAGE_SIZE)]).unwrap();
        let (tpm, presence) = (Arc::<TestTpm>::default(), Arc::<Mutex<Presence>>::default());
        let registers = TpmRegisters::new(ram.clone(), Arc::clone(&tpm) as _, Arc::clone(&presence));
        Machine { ram, tpm, presence, registers }
    }

    /// With buffers.
    fn mapped() -> Self {
        let mut machine = Machine::new();
        machine.write_port(port::MAP_SHARED_MEMORY, COMMANDS);
        machine
    }

    fn write_port(&mut self, command: u32, value: u32) {
        PortDevice::write(&mut self.registers, 0, &command.to_le_bytes());
        PortDevice::write(&mut self.registers, 4, &value.to_le_bytes());
    }

    fn read_port(&mut self, command: u32) -> u32 {
        let mut data = [0xff; 4];
        PortDevice::write(&mut self.registers, 0, &command.to_le_bytes());
        PortDevice::read(&mut self.registers, 4, &mut data);
        u32::from_le_bytes(data)
    }

    fn read(&mut self, offset: usize) -> u32 {
        let mut data = [0xff; 4];
        MmioDevice::read(&mut self.registers, offset as u64, &mut data);
        u32::from_le_bytes(data)
    }

    fn write(&mut self, offset: usize, value: u32) {
        MmioDevice::write(&mut self.registers, offset as u64, &value.to_le_bytes());
    }

    fn start(&mut self, command: &[u8]) {
        self.ram.write_slice(command, GuestAddress(COMMANDS.into())).unwrap();
        self.ram.write_slice(&[0xee; 64], GuestAddress(RESPONSES)).unwrap();
        self.write(register::START, 1);
    }

    fn answer(&self, response: &[u8]) {
        let answer = self.tpm.state().answer.take().unwrap();
        answer.give(response);
    }

    fn response(&self) -> [u8; 10] {
        self.ram.read_obj(GuestAddress(RESPONSES)).unwrap()
    }
}

#[test]
fn a_command_runs_while_the_guest_polls() {
    let mut machine = Machine::mapped();
    machine.start(&COMMAND);
    assert_eq!(machine.tpm.state().commands, [COMMAND]);
    assert_eq!([machine.read(register::START), machine.read(register::STATUS)], [1, 0]);
    machine.answer(&RESPONSE);
    assert_eq!([machine.read(register::START), machine.read(register::STATUS)], [0, 0]);
    assert_eq!(machine.response(), RESPONSE);
    machine.start(&COMMAND);
    assert_eq!(machine.tpm.state().commands.len(), 2);
}

#[test]
fn the_buffers_are_where_the_firmware_wants_them() {
    let mut machine = Machine::new();
    assert_eq!(machine.read_port(port::ESTABLISHED), 0);
    assert_eq!(machine.read(register::COMMAND_ADDRESS), 0);
    machine.write_port(port::MAP_SHARED_MEMORY, COMMANDS);
    assert_eq!(machine.read_port(port::ESTABLISHED), COMMANDS);
    let area = [0x40, 0x44, 0x48, 0x4c, 0x50, 0x54, 0x58, 0x5c, 0x60, 0x64, 0x68, 0x6c];
    let found = area.map(|offset| machine.read(offset));
    assert_eq!(found, [0, 0, 0, 0, 0, 0, 0x1000, 0x4000, 0, 0x1000, 0x5000, 0]);
}

#[test]
fn buffers_that_are_no_two_pages_of_ram_are_not_established() {
    let mut machine = Machine::mapped();
    for address in [0, 1, 0x4800, 0x7000, 0x8000, 0xfed4_0000, 0xffff_f000] {
        machine.write_port(port::MAP_SHARED_MEMORY, address);
        assert_eq!(machine.read_port(port::ESTABLISHED), 0, "{address:#x}");
        machine.write(register::START, 1);
        let state = [machine.read(register::START), machine.read(register::STATUS)];
        assert_eq!(state, [0, 1], "{address:#x}");
    }
    machine.write_port(port::MAP_SHARED_MEMORY, COMMANDS);
    assert_eq!(machine.read(register::STATUS), 0, "a guest that sets it right goes on");
    assert!(machine.tpm.state().commands.is_empty());
}

#[test]
fn a_response_goes_where_the_buffers_were_when_its_command_began() {
    let mut machine = Machine::mapped();
    machine.start(&COMMAND);
    machine.write_port(port::MAP_SHARED_MEMORY, 0x1000);
    machine.answer(&RESPONSE);
    assert_eq!(machine.response(), RESPONSE);
}

#[test]
fn a_command_of_an_impossible_size_never_reaches_the_tpm() {
    for size in [0, 9, 4097, u32::MAX] {
        let mut machine = Machine::mapped();
        let mut command = COMMAND;
        command[2..6].copy_from_slice(&size.to_be_bytes());
        machine.start(&command);
        assert_eq!((machine.response(), machine.read(register::START)), (WRONG_SIZE, 0), "{size}");
        assert!(machine.tpm.state().commands.is_empty());
    }
}

#[test]
fn a_command_may_fill_its_buffer() {
    let mut machine = Machine::mapped();
    let mut command = vec![7; 4096];
    command[2..6].copy_from_slice(&4096u32.to_be_bytes());
    machine.start(&command);
    assert!(machine.tpm.state().commands[0] == command);
    let mut response = vec![9; 4096];
    response[2..6].copy_from_slice(&4096u32.to_be_bytes());
    machine.answer(&response);
    let mut found = vec![0; 4096];
    machine.ram.read_slice(&mut found, GuestAddress(RESPONSES)).unwrap();
    assert!(found == response);
}

#[test]
fn what_is_no_response_is_a_failure() {
    let long = [&[0x80, 1, 0, 0, 0x10, 1][..], &[0; 4091]].concat();
    for response in [&[][..], &RESPONSE[..9], &COMMAND[..10], &[RESPONSE, RESPONSE].concat(), &long] {
        let mut machine = Machine::mapped();
        machine.start(&COMMAND);
        machine.answer(response);
        assert_eq!((machine.response(), machine.read(register::START)), (FAILURE, 0), "{response:?}");
    }
}

#[test]
fn a_tpm_that_loses_the_command_has_failed() {
    let mut machine = Machine::mapped();
    machine.start(&COMMAND);
    drop(machine.tpm.state().answer.take());
    assert_eq!((machine.response(), machine.read(register::START)), (FAILURE, 0));
}

#[test]
fn a_start_while_a_command_runs_changes_nothing() {
    let mut machine = Machine::mapped();
    machine.start(&COMMAND);
    machine.start(&COMMAND);
    machine.write(register::START, 0);
    assert_eq!(machine.read(register::START), 1);
    assert_eq!(machine.tpm.state().commands.len(), 1);
    machine.answer(&RESPONSE);
    assert_eq!(machine.read(register::START), 0);
}

#[test]
fn only_a_command_that_runs_is_cancelled_and_only_once() {
    let mut machine = Machine::mapped();
    machine.write(register::CANCEL, 1);
    assert_eq!(machine.tpm.state().cancelled, 0);
    machine.write(register::CANCEL, 0);
    machine.start(&COMMAND);
    for _ in 0..3 {
        machine.write(register::CANCEL, 7);
        assert_eq!(machine.read(register::CANCEL), 1);
    }
    assert_eq!(machine.tpm.state().cancelled, 1);
    machine.write(register::CANCEL, 0);
    assert_eq!([machine.read(register::CANCEL), machine.read(register::START)], [0, 1]);
}

#[test]
fn the_locality_is_granted_and_given_up() {
    let mut machine = Machine::new();
    assert_eq!([0x00, 0x08, 0x0c].map(|offset| machine.read(offset)), [0x81, 0, 1]);
    machine.write(register::LOCALITY_CONTROL, 1);
    assert_eq!(machine.read(register::LOCALITY_STATE), 0x83);
    machine.write(register::LOCALITY_CONTROL, 2);
    assert_eq!(machine.read(register::LOCALITY_STATE), 0x81);
    assert_eq!([0x30, 0x34].map(|offset| machine.read(offset)), [0x4011, 0]);
}

#[test]
fn registers_are_read_in_any_size_up_to_their_end() {
    let mut machine = Machine::mapped();
    let mut read = |offset: u64, len: usize| {
        let mut data = vec![0xff; len];
        MmioDevice::read(&mut machine.registers, offset, &mut data);
        data
    };
    assert_eq!(read(0x5c, 8), [0, 0x40, 0, 0, 0, 0, 0, 0]);
    assert_eq!(read(0x5d, 1), [0x40]);
    assert_eq!(read(0x57, 4), [0, 0, 0x10, 0]);
    assert_eq!(read(0x6c, 8), [0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff], "past the last register");
    assert_eq!(read(0xfff, 1), [0xff]);
    assert_eq!(read(u64::MAX, 8), [0xff; 8]);
}

#[test]
fn odd_writes_start_nothing() {
    let mut machine = Machine::mapped();
    for (offset, data) in [(0x4c, &[1; 4][..]), (0x4c, &[1, 0, 0, 0, 0, 0, 0, 0]), (0x4d, &[1, 0, 0, 0])] {
        MmioDevice::write(&mut machine.registers, offset, data);
        assert_eq!(machine.read(register::START), 0);
    }
    MmioDevice::write(&mut machine.registers, u64::MAX, &[1; 8]);
    MmioDevice::write(&mut machine.registers, 0x4c, &[1]);
    assert_eq!(machine.read(register::START), 0, "zeros are no command");
    assert_eq!(machine.response(), WRONG_SIZE);
}

#[test]
fn a_reset_carries_out_what_the_os_asked_of_it() {
    let mut machine = Machine::new();
    machine.write_port(port::USER_CONFIRMATION, 5);
    assert_eq!(machine.read_port(port::USER_CONFIRMATION), 4);
    machine.write_port(port::SET_OPERATION, 5);
    assert_eq!([port::SET_OPERATION, port::PENDING_OPERATION].map(|c| machine.read_port(c)), [0, 5]);
    assert_eq!(machine.presence.lock().unwrap().take(), Some(Operation::Clear));
    assert_eq!(machine.read_port(port::LAST_RESULT), PLATFORM_FAILURE, "nobody has done it yet");
    machine.presence.lock().unwrap().done(0x123);
    assert_eq!(machine.presence.lock().unwrap().take(), None, "once");
    let ports = [port::PENDING_OPERATION, port::LAST_OPERATION, port::LAST_RESULT];
    assert_eq!(ports.map(|c| machine.read_port(c)), [0, 5, 0x123]);
}

#[test]
fn pcr_banks_have_an_argument_and_what_the_firmware_knows() {
    let mut machine = Machine::new();
    machine.write_port(port::HASH_ALGORITHMS, 7);
    machine.write_port(port::SET_OPERATION_ARGUMENT, 2);
    machine.write_port(port::SET_OPERATION, 23);
    let taken = machine.presence.lock().unwrap().take();
    assert_eq!(taken, Some(Operation::SetPcrBanks { wanted: 2, known: 7 }));
}

#[test]
fn operations_without_a_meaning_do_nothing() {
    let mut machine = Machine::new();
    machine.write_port(port::SET_OPERATION, 1000);
    assert_eq!(machine.presence.lock().unwrap().take(), None);
    assert_eq!(machine.read_port(port::LAST_OPERATION), 1000);
}

#[test]
fn ports_of_other_sizes_and_commands_are_ones() {
    let mut machine = Machine::new();
    assert_eq!(machine.read_port(port::TCG_PROTOCOL), 1);
    assert_eq!(machine.read_port(99), u32::MAX);
    PortDevice::write(&mut machine.registers, 0, &[64]);
    assert_eq!(machine.read_port(port::MAP_SHARED_MEMORY), u32::MAX);
    let mut data = [0xff; 4];
    PortDevice::read(&mut machine.registers, 0, &mut data);
    assert_eq!(data, [0xff; 4], "the port for commands is not for reading");
}
