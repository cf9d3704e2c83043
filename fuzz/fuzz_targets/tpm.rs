//! The TPM's registers and a guest that means no good, with a TPM that means no better: accesses of all sizes anywhere,
//! commands that say any size, responses of any length at any time.
//!
//! Whatever they do, nothing may panic; a command is as long as it says and fits into its buffer, there is one at a
//! time, a response ends it, and nothing is written but the response's page.
//!
//! Run it with `cargo fuzz run tpm` (nightly, or `RUSTC_BOOTSTRAP=1`).

#![no_main]

#[path = "input.rs"]
mod input;

use std::sync::{Arc, Mutex};

use devices::legacy::{MmioBus, PortBus};
use devices::mem::{GuestRam, PAGE_SIZE};
use devices::testing::TestTpm;
use devices::tpm::protocol::{BUFFER_SIZE, TPM_ADDRESS, TPM_PORT, TPM_SIZE, port, register};
use devices::tpm::{Presence, TpmRegisters};
use input::Input;
use libfuzzer_sys::fuzz_target;
use vm_memory::{Bytes, GuestAddress};

const PAGES: usize = 8;
const SIZES: [u32; 8] = [0, 9, 10, 11, 64, 4096, 4097, u32::MAX];

struct Machine {
    ram: GuestRam,
    tpm: Arc<TestTpm>,
    presence: Arc<Mutex<Presence>>,
    ports: PortBus,
    mmio: MmioBus,
    /// Where the buffers were when the command that runs began.
    response: u64,
}

impl Machine {
    fn new() -> Self {
        let ram = GuestRam::from_ranges(&[(GuestAddress(0), PAGES * PAGE_SIZE)]).expect("memory");
        let (tpm, presence) = (Arc::<TestTpm>::default(), Arc::<Mutex<Presence>>::default());
        let registers = TpmRegisters::new(ram.clone(), Arc::clone(&tpm) as _, Arc::clone(&presence));
        let registers = Arc::new(Mutex::new(registers));
        let (mut ports, mut mmio) = (PortBus::new(), MmioBus::new());
        ports.insert("TPM", TPM_PORT, TpmRegisters::PORTS, Arc::clone(&registers) as _).expect("a place");
        mmio.insert("TPM", TPM_ADDRESS..TPM_ADDRESS + TPM_SIZE, registers).expect("a place");
        Machine { ram, tpm, presence, ports, mmio, response: 0 }
    }

    fn read(&self, offset: usize) -> u32 {
        let mut data = [0; 4];
        self.mmio.read(TPM_ADDRESS + offset as u64, &mut data);
        u32::from_le_bytes(data)
    }

    fn port(&self, command: u32, value: u32) {
        self.ports.write(TPM_PORT, &command.to_le_bytes());
        self.ports.write(TPM_PORT + 4, &value.to_le_bytes());
    }

    /// A command of some size, begun properly.
    fn command(&mut self, input: &mut Input<'_>) {
        let address = u64::from(self.read(register::COMMAND_ADDRESS));
        let size = SIZES[usize::from(input.byte() % 8)];
        if address != 0 {
            self.ram.write_slice(&size.to_be_bytes(), GuestAddress(address + 2)).expect("the buffer");
        }
        self.write(register::START as u64, &[1, 0, 0, 0]);
    }

    fn write(&mut self, offset: u64, data: &[u8]) {
        let before = self.tpm.state().commands.len();
        let (response, status) =
            (u64::from(self.read(register::RESPONSE_ADDRESS)), self.read(register::STATUS));
        self.mmio.write(TPM_ADDRESS + offset, data);
        let state = self.tpm.state();
        if let [.., command] = &state.commands[before..] {
            let size = u32::from_be_bytes([command[2], command[3], command[4], command[5]]) as usize;
            assert!(size == command.len() && (10..=BUFFER_SIZE).contains(&size));
            assert!(response != 0 && status <= 1);
            self.response = response;
        }
    }

    /// The TPM answers, or loses its command.
    fn answer(&self, response: &[u8], lose: bool) {
        let Some(answer) = self.tpm.state().answer.take() else { return };
        let before = self.memory();
        if lose {
            drop(answer)
        } else {
            answer.give(response)
        }
        let after = self.memory();
        let page = self.response as usize..self.response as usize + PAGE_SIZE;
        assert!(before[..page.start] == after[..page.start] && before[page.end..] == after[page.end..]);
        let size = [2, 3, 4, 5].map(|at| after[page.start + at]);
        assert!((10..=BUFFER_SIZE).contains(&(u32::from_be_bytes(size) as usize)));
        assert_eq!(self.read(register::START), 0);
    }

    fn memory(&self) -> Vec<u8> {
        let mut all = vec![0; PAGES * PAGE_SIZE];
        self.ram.read_slice(&mut all, GuestAddress(0)).expect("memory");
        all
    }
}

fn number(input: &mut Input<'_>) -> u32 {
    u32::from_le_bytes([0; 4].map(|_| input.byte()))
}

fuzz_target!(|bytes: &[u8]| {
    let mut input = Input(bytes);
    let mut machine = Machine::new();
    for _ in 0..64 {
        match input.byte() % 8 {
            0 => machine.command(&mut input),
            1 => {
                let offset = u64::from(number(&mut input)) % (TPM_SIZE + 8);
                let near = if offset & 1 == 0 { offset % 0x78 } else { offset };
                let len = usize::from(input.byte() % 9);
                machine.write(near, input.bytes(len));
                machine.mmio.read(TPM_ADDRESS + near, &mut [0; 8][..len]);
            }
            2 => {
                let at = TPM_PORT + u16::from(input.byte() % 10);
                let len = usize::from(input.byte() % 5);
                machine.ports.write(at, input.bytes(len));
                machine.ports.read(at, &mut [0; 4][..len]);
            }
            3 => machine.port(port::MAP_SHARED_MEMORY, u32::from(input.byte() % 10) * PAGE_SIZE as u32),
            4 => machine.port(u32::from(input.byte() % 70), number(&mut input)),
            5 => {
                let len = usize::from(input.byte());
                let mut response = input.bytes(len).to_vec();
                if len & 1 == 0 && response.len() > 5 {
                    let size = response.len() as u32;
                    response[2..6].copy_from_slice(&size.to_be_bytes());
                }
                machine.answer(&response, input.byte() == 0);
            }
            6 => machine.write(register::CANCEL as u64, &[input.byte(), 0, 0, 0]),
            _ => {
                let taken = machine.presence.lock().expect("nobody panicked").take();
                if taken.is_some() {
                    machine.presence.lock().expect("nobody panicked").done(number(&mut input));
                }
            }
        }
        assert!(machine.read(register::START) <= 1);
    }
});
