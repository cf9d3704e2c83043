//! The service between a guest's registers and a swtpm: one that is played here, and, on request, the real one.

mod played;
mod real;

use std::thread;
use std::time::{Duration, Instant};

use devices::legacy::{MmioDevice, PortDevice};
use devices::mem::GuestRam;
use devices::tpm::TpmRegisters;
use devices::tpm::protocol::{port, register};
use vm_memory::{Bytes, GuestAddress};
use vmm_sys_util::tempdir::TempDir;

use super::*;
use played::{Played, Told};

const COMMANDS: u32 = 0x1000;
const SELF_TEST: [u8; 11] = [0x80, 1, 0, 0, 0, 11, 0, 0, 1, 0x43, 1];
const GET_RANDOM: [u8; 12] = [0x80, 1, 0, 0, 0, 12, 0, 0, 1, 0x7b, 0, 16];
const STARTUP: [u8; 12] = [0x80, 1, 0, 0, 0, 12, 0, 0, 1, 0x44, 0, 0];
const SUCCESS: [u8; 10] = [0x80, 1, 0, 0, 0, 10, 0, 0, 0, 0];
const FAILURE: [u8; 10] = [0x80, 1, 0, 0, 0, 10, 0, 0, 1, 1];
const CLEAR: u32 = 5;

/// A machine with a TPM, and its guest.
struct Guest {
    ram: GuestRam,
    registers: TpmRegisters,
}

impl Guest {
    fn new(service: &Service) -> Self {
        let ram = GuestRam::from_ranges(&[(GuestAddress(0), 0x4000)]).unwrap();
        let (tpm, presence) = service.power_on();
        let mut registers = TpmRegisters::new(ram.clone(), tpm, presence);
        assert!(registers.map(COMMANDS));
        Guest { ram, registers }
    }

    fn start(&mut self, command: &[u8]) {
        self.ram.write_slice(command, GuestAddress(COMMANDS.into())).unwrap();
        MmioDevice::write(&mut self.registers, register::START as u64, &[1, 0, 0, 0]);
    }

    fn busy(&mut self) -> bool {
        let mut start = [0; 4];
        MmioDevice::read(&mut self.registers, register::START as u64, &mut start);
        start != [0; 4]
    }

    /// The response, of which the first bytes are interesting.
    fn response(&mut self) -> Vec<u8> {
        let patience = Instant::now() + Duration::from_secs(60);
        while self.busy() {
            assert!(Instant::now() < patience, "no response");
            thread::sleep(Duration::from_millis(1));
        }
        let address = u64::from(COMMANDS) + 4096;
        let size = u32::from_be(self.ram.read_obj(GuestAddress(address + 2)).unwrap());
        let mut response = vec![0; size as usize];
        self.ram.read_slice(&mut response, GuestAddress(address)).unwrap();
        response
    }

    fn execute(&mut self, command: &[u8]) -> Vec<u8> {
        self.start(command);
        self.response()
    }

    fn cancel(&mut self, cancel: u8) {
        MmioDevice::write(&mut self.registers, register::CANCEL as u64, &[cancel, 0, 0, 0]);
    }

    fn write_port(&mut self, command: u32, value: u32) {
        PortDevice::write(&mut self.registers, 0, &command.to_le_bytes());
        PortDevice::write(&mut self.registers, 4, &value.to_le_bytes());
    }

    fn read_port(&mut self, command: u32) -> u32 {
        let mut value = [0; 4];
        PortDevice::write(&mut self.registers, 0, &command.to_le_bytes());
        PortDevice::read(&mut self.registers, 4, &mut value);
        u32::from_le_bytes(value)
    }
}

#[test]
fn the_guest_polls_while_a_command_runs() {
    let played = Played::good();
    let service = played.start();
    let mut guest = Guest::new(&service);
    guest.start(&SELF_TEST);
    played.until(&Told::Command(SELF_TEST.to_vec()));
    assert!(guest.busy());
    played.answer(&SUCCESS);
    assert_eq!(guest.response(), SUCCESS);
}

#[test]
fn a_command_is_cancelled_once_and_the_next_requests_are_understood() {
    let played = Played::good();
    let service = played.start();
    let mut guest = Guest::new(&service);
    guest.start(&SELF_TEST);
    played.until(&Told::Command(SELF_TEST.to_vec()));
    for _ in 0..100 {
        guest.cancel(1);
        guest.cancel(0);
    }
    played.until(&Told::Control(0x09));
    played.answer(&FAILURE);
    assert_eq!(guest.response(), FAILURE);
    let mut next = Guest::new(&service);
    played.answer(&SUCCESS);
    assert_eq!(next.execute(&SELF_TEST), SUCCESS);
    let told = played.until(&Told::Command(SELF_TEST.to_vec()));
    assert_eq!(told[..3], [0x0e, 0x11, 0x02].map(Told::Control), "no second cancel, and power");
}

#[test]
fn a_lost_tpm_fails_until_a_reset_finds_another() {
    let played = Played::good();
    let service = played.start();
    let mut guest = Guest::new(&service);
    played.answer(&[]);
    assert_eq!(guest.execute(&SELF_TEST), FAILURE);
    assert_eq!(guest.execute(&SELF_TEST), FAILURE, "nobody is asked any more");
    let mut next = Guest::new(&service);
    played.answer(&SUCCESS);
    assert_eq!(next.execute(&SELF_TEST), SUCCESS);
}

#[test]
fn a_tpm_lost_while_idle_stayed_lost_for_the_whole_next_life() {
    let played = Played::good();
    let service = played.start();
    let mut guest = Guest::new(&service);
    guest.write_port(port::SET_OPERATION, CLEAR);
    played.die();
    (0..3).for_each(|_| played.answer(&SUCCESS));
    let mut next = Guest::new(&service);
    assert_eq!(next.execute(&SELF_TEST), SUCCESS);
    let results = [port::LAST_OPERATION, port::LAST_RESULT];
    assert_eq!(
        results.map(|command| next.read_port(command)),
        [CLEAR, 0],
        "and what was asked of it is done"
    );
}

#[test]
fn a_response_longer_than_the_buffer_loses_the_tpm() {
    let played = Played::good();
    let service = played.start();
    let mut guest = Guest::new(&service);
    played.answer(&[&[0x80, 1, 0, 0, 0x10, 1][..], &[0; 4091]].concat());
    assert_eq!(guest.execute(&SELF_TEST), FAILURE);
}

#[test]
fn a_reset_while_a_command_runs_asks_for_its_end() {
    let played = Played::good();
    let service = played.start();
    let mut guest = Guest::new(&service);
    guest.start(&SELF_TEST);
    played.until(&Told::Command(SELF_TEST.to_vec()));
    let mut next = Guest::new(&service);
    next.start(&GET_RANDOM);
    played.until(&Told::Control(0x09));
    assert!(next.busy());
    played.answer(&FAILURE);
    played.answer(&SUCCESS);
    assert_eq!((guest.response(), next.response()), (FAILURE.to_vec(), SUCCESS.to_vec()));
    let told = played.until(&Told::Command(GET_RANDOM.to_vec()));
    assert_eq!(told[..3], [0x0e, 0x11, 0x02].map(Told::Control), "power before the next machine's command");
}

#[test]
fn the_end_does_not_wait_for_a_command() {
    let played = Played::good();
    let service = played.start();
    let mut guest = Guest::new(&service);
    guest.start(&SELF_TEST);
    played.until(&Told::Command(SELF_TEST.to_vec()));
    drop(service);
    assert_eq!(guest.response(), FAILURE);
}

#[test]
fn the_os_has_the_tpm_cleared_by_a_reset() {
    let played = Played::good();
    let service = played.start();
    let mut guest = Guest::new(&service);
    guest.write_port(port::SET_OPERATION, CLEAR);
    // Clear control, and a clear that fails.
    played.answer(&SUCCESS);
    played.answer(&[0x80, 1, 0, 0, 0, 10, 0, 0, 1, 0x20]);
    played.answer(&SUCCESS);
    let mut next = Guest::new(&service);
    assert_eq!(next.execute(&SELF_TEST), SUCCESS, "after that");
    let results = [port::PENDING_OPERATION, port::LAST_OPERATION, port::LAST_RESULT];
    assert_eq!(results.map(|command| next.read_port(command)), [0, CLEAR, 0x120]);
    let told = played.until(&Told::Command(SELF_TEST.to_vec()));
    let code = |told: &Told| if let Told::Command(command) = told { Some(command[9]) } else { None };
    let codes: Vec<u8> = told.iter().filter_map(code).collect();
    assert_eq!(codes, [0x27, 0x26, 0x43]);
}

#[test]
fn what_is_no_tpm_2_is_refused() {
    let words = |played: &Played| Service::start(&played.source()).unwrap_err().to_string();
    let old = Played::new(0x1, SUCCESS);
    assert_eq!(words(&old), "This swtpm is too old: it has capabilities 0x1, and 0x3401 are needed");
    let tpm_1 = Played::new(0xffff, [0, 0xc4, 0, 0, 0, 10, 0, 0, 0, 0x1e]);
    assert_eq!(words(&tpm_1), "This TPM is no TPM 2.0; start swtpm with --tpm2");
    let nobody = TpmSource::Socket("/nonexistent/tpm".into());
    assert_eq!(Service::start(&nobody).unwrap_err().to_string(), "No swtpm listens on /nonexistent/tpm");
}
