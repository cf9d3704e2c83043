//! The BIOS device and a guest that means no good: registers, and commands that lie anywhere in a little RAM.
//!
//! The machine has keys. Among its guest's memory is a write of `db` that a key exchange key has signed; the fuzzer
//! changes it. Whatever the guest does, nothing may panic or hang, the store keeps its limits, the platform key stays,
//! and `db` is what was signed or is not there.
//!
//! Run it with `cargo fuzz run bios` (nightly, or `RUSTC_BOOTSTRAP=1`).

#![no_main]

#[path = "input.rs"]
mod input;

use std::sync::{Arc, Mutex};
use std::time::Duration;

use devices::firmware::nvram::protocol::{
    Attributes, Authentication, CERTIFICATE_HEADER, CERTIFICATE_REVISION, CERTIFICATE_TYPE, PKCS7, SHA256,
    SignatureList, X509, vendor,
};
use devices::firmware::nvram::services::Nowhere;
use devices::firmware::nvram::variable::{DATA_MAX, NAME_MAX};
use devices::firmware::nvram::{Store, VariableId, Variables, format};
use devices::firmware::protocol::{BIOS_PORT, EfiTime, NvramHeader, NvramVariable, WATCHDOG_PORT, register};
use devices::firmware::{Alarm, Bios, GuestWatchdog, Watchdog};
use devices::guid::Guid;
use devices::legacy::PortBus;
use devices::mem::{GuestRam, PAGE_SIZE};
use input::Input;
use libfuzzer_sys::fuzz_target;
use vm_memory::{Bytes, GuestAddress};
use zerocopy::IntoBytes;
use zerocopy::little_endian::{I16, U16, U32};

const PK: &[u8] = include_bytes!("../../devices/src/firmware/nvram/fixtures/pk.crt");
const KEK: &[u8] = include_bytes!("../../devices/src/firmware/nvram/fixtures/kek.crt");
const SIGNATURE: &[u8] = include_bytes!("../../devices/src/firmware/nvram/fixtures/leaf.p7");

const PAGES: usize = 64;
const COMMAND: u64 = 0x1000;
const NAME: u64 = 0x2000;
const SIGNED: u64 = 0x4000;
const DATA: u64 = 0x6000;
const NAMES: [(&str, Guid); 8] = [
    ("db", vendor::IMAGE_SECURITY),
    ("dbx", vendor::IMAGE_SECURITY),
    ("PK", vendor::GLOBAL),
    ("KEK", vendor::GLOBAL),
    ("SetupMode", vendor::GLOBAL),
    ("OsLoaderIndications", vendor::HYPERV),
    ("BootOrder", vendor::GLOBAL),
    ("Private", Guid::ZERO),
];
const ATTRIBUTES: [u32; 8] = [7, 3, 0x27, 0x67, 0x47, 0, 2, 0x20];

#[derive(Debug)]
struct Silent;

impl Alarm for Silent {
    fn set(&mut self, _: Option<Duration>) {}
}

fn list(kind: Guid, signature: &[u8]) -> Vec<u8> {
    let bytes = 16 + signature.len() as u32;
    let wire = SignatureList {
        kind,
        list_bytes: U32::new(28 + bytes),
        header_bytes: U32::new(0),
        signature_bytes: U32::new(bytes),
    };
    [wire.as_bytes(), &[0x77; 16], signature].concat()
}

/// The write of `db` that is signed.
fn signed_write() -> Vec<u8> {
    let time = EfiTime {
        year: U16::new(2026),
        month: 1,
        day: 2,
        hour: 3,
        minute: 4,
        second: 5,
        reserved: 0,
        nanosecond: U32::new(0),
        timezone: I16::new(0),
        daylight: 0,
        reserved2: 0,
    };
    let header = Authentication {
        time,
        length: U32::new((CERTIFICATE_HEADER + SIGNATURE.len()) as u32),
        revision: U16::new(CERTIFICATE_REVISION),
        kind: U16::new(CERTIFICATE_TYPE),
        certificate: PKCS7,
    };
    [header.as_bytes(), SIGNATURE, &list(SHA256, &[1; 32])].concat()
}

fn id(name: &str, vendor: Guid) -> VariableId {
    VariableId::new(vendor, name).expect("a name")
}

struct Guest {
    ram: GuestRam,
    ports: PortBus,
    variables: Arc<Mutex<Variables>>,
}

impl Guest {
    fn new() -> Self {
        let ram = GuestRam::from_ranges(&[(GuestAddress(0), PAGES * PAGE_SIZE)]).expect("memory");
        let mut variables = Variables::new(Store::new(Guid::ZERO), Box::new(Nowhere));
        for (name, key) in [("KEK", KEK), ("PK", PK)] {
            let data = list(X509, key);
            let set = variables.set_as_owner(&id(name, vendor::GLOBAL), Attributes::POLICY, Some(&data));
            set.expect("the owner may");
        }
        let mut guest = Guest { ram, ports: PortBus::new(), variables: Arc::new(Mutex::new(variables)) };
        guest.power_on();
        guest.write(SIGNED, &signed_write());
        guest
    }

    fn power_on(&mut self) {
        let watchdog = || Watchdog::new(Box::new(Silent), false);
        let bios = Bios::new(self.ram.clone(), Arc::clone(&self.variables), watchdog());
        let guest_watchdog = GuestWatchdog::new(watchdog());
        let mut ports = PortBus::new();
        ports.insert("BIOS", BIOS_PORT, Bios::PORTS, Arc::new(Mutex::new(bios))).expect("a place");
        ports
            .insert("watchdog", WATCHDOG_PORT, GuestWatchdog::PORTS, Arc::new(Mutex::new(guest_watchdog)))
            .expect("a place");
        self.ports = ports;
    }

    fn write(&self, address: u64, bytes: &[u8]) {
        let _ = self.ram.write_slice(bytes, GuestAddress(address));
    }

    fn register(&self, port: u16, register: u32, data: u32) {
        self.ports.write(port, &register.to_le_bytes());
        self.ports.write(port + 4, &data.to_le_bytes());
    }

    /// A command that is nearly as the firmware gives it.
    fn command(&self, input: &mut Input<'_>) {
        let (name, vendor) = NAMES[usize::from(input.byte() % 8)];
        let name: Vec<u8> = name.encode_utf16().chain([0]).flat_map(u16::to_le_bytes).collect();
        self.write(NAME, &name);
        let what = input.byte();
        let (address, len) = if what & 0x80 == 0 {
            (SIGNED, signed_write().len() as u32)
        } else {
            (DATA, u32::from(input.byte()))
        };
        let header = NvramHeader { command: U32::new(u32::from(what % 8)), status: 0.into() };
        let variable = NvramVariable {
            attributes: U32::new(ATTRIBUTES[usize::from(what >> 4 & 7)]),
            name_address: NAME.into(),
            name_bytes: U32::new(if what & 8 == 0 { name.len() as u32 } else { NAME_MAX as u32 }),
            vendor,
            data_address: address.into(),
            data_bytes: U32::new(len),
        };
        self.write(COMMAND, header.as_bytes());
        self.write(COMMAND + 12, variable.as_bytes());
        // And then a little different.
        for _ in 0..input.byte() % 4 {
            self.write(COMMAND + u64::from(input.byte() % 64), &[input.byte()]);
        }
        self.register(BIOS_PORT, register::NVRAM_COMMAND, COMMAND as u32);
    }
}

fn number(input: &mut Input<'_>) -> u32 {
    u32::from_le_bytes([0; 4].map(|_| input.byte()))
}

fuzz_target!(|bytes: &[u8]| {
    let mut input = Input(bytes);
    let mut guest = Guest::new();
    for _ in 0..64 {
        match input.byte() % 8 {
            0 | 1 => guest.command(&mut input),
            2 => {
                let at = u64::from(number(&mut input)) % (PAGES * PAGE_SIZE) as u64;
                let len = usize::from(input.byte());
                guest.write(at, input.bytes(len));
            }
            3 => guest.write(SIGNED + u64::from(number(&mut input)) % 1300, &[input.byte()]),
            4 => {
                let register = u32::from(input.byte());
                let data = number(&mut input);
                let near = if data & 1 == 0 { data % (PAGES * PAGE_SIZE) as u32 } else { data };
                guest.register(BIOS_PORT, register, near);
            }
            5 => guest.register(WATCHDOG_PORT, u32::from(input.byte()), number(&mut input)),
            6 => {
                let port = BIOS_PORT + u16::from(input.byte() % 16);
                let len = usize::from(input.byte() % 5);
                guest.ports.write(port, input.bytes(len));
                guest.ports.read(port, &mut [0; 4][..len]);
            }
            _ if input.byte() == 0 => guest.power_on(),
            _ => {}
        }
    }
    let variables = guest.variables.lock().expect("nobody panicked");
    let store = variables.store();
    assert!(store.iter().all(|(_, variable)| variable.data.len() <= DATA_MAX));
    assert_eq!(format::decode(&format::encode(store)).as_ref(), Ok(store));
    let data = |name, vendor| store.get(&id(name, vendor)).map(|variable| variable.data.clone());
    assert_eq!(data("PK", vendor::GLOBAL), Some(list(X509, PK)));
    assert_eq!(data("KEK", vendor::GLOBAL), Some(list(X509, KEK)));
    assert_eq!(data("dbx", vendor::IMAGE_SECURITY), None);
    assert!(data("db", vendor::IMAGE_SECURITY).is_none_or(|db| db == list(SHA256, &[1; 32])));
});
