//! The BIOS device: registers behind two ports, and variables that outlive the machine.

use crate::console::{check, value};
use crate::machine::{in32, out32, read, write};

const REGISTER: u16 = 0x28;
const DATA: u16 = 0x2c;

const NVRAM_COMMAND: u32 = 0x24;
const WATCHDOG_RESOLUTION: u32 = 0x28;
const NFIT_SIZE: u32 = 0x37;

const GET: u32 = 0;
const SET: u32 = 1;
const FIRST_NAME: u32 = 2;
const NEXT_NAME: u32 = 3;
const QUERY: u32 = 4;
const DEBUG: u32 = 6;
const SUCCESS: u64 = 0;
const TOO_SMALL: u64 = 5;
const NOT_FOUND: u64 = 14;
/// Non-volatile, boot services, run time.
const ATTRIBUTES: u32 = 7;

/// A page for the command, one for a name, one for data.
const COMMAND: u64 = 0xa0_0000;
const NAME: u64 = 0xa0_1000;
const BUFFER: u64 = 0xa0_2000;
const GUID: [u8; 16] = *b"synthetic vendor";
/// "LabCount" in UTF-16, NUL-ended.
const VARIABLE: [u16; 9] = [0x4c, 0x61, 0x62, 0x43, 0x6f, 0x75, 0x6e, 0x74, 0];

pub fn check() {
    let resolution = register(WATCHDOG_RESOLUTION);
    value!("watchdog_resolution", "{resolution:#x}");
    check!(
        register(NFIT_SIZE) == 0,
        "the machine has persistent memory: NFIT size {:#x}",
        register(NFIT_SIZE)
    );
    check!(command(DEBUG, 0, 0) == SUCCESS, "the debug command fails");
    check!(command(QUERY, ATTRIBUTES, 0) == SUCCESS, "the variables' space cannot be asked for");
    let [max, remaining, largest] = [16, 24, 32].map(|at| read::<u64>(COMMAND + at));
    check!(max > 0 && remaining <= max && largest <= max, "space is {max:#x} {remaining:#x} {largest:#x}");
    let boots = check_variable();
    value!("boots", "{boots}");
}

/// Counts up a variable and finds it again in every way.
fn check_variable() -> u32 {
    let found = command(GET, 0, 4);
    let boots = match found {
        SUCCESS => read::<u32>(BUFFER) + 1,
        status => {
            check!(status == NOT_FOUND, "a variable that is not there gives status {status}");
            1
        }
    };
    write(BUFFER, boots);
    let set = command(SET, ATTRIBUTES, 4);
    check!(set == SUCCESS, "a variable cannot be set: status {set}");
    let get = command(GET, 0, 2);
    let needed: u32 = read(COMMAND + 52);
    check!(get == TOO_SMALL && needed == 4, "too small a buffer gives status {get}, size {needed}");
    write(BUFFER, 0u32);
    let get = command(GET, 0, 16);
    let [attributes, size] = [12, 52].map(|at| read::<u32>(COMMAND + at));
    let same = read::<u32>(BUFFER) == boots && [attributes, size] == [ATTRIBUTES, 4];
    check!(
        get == SUCCESS && same,
        "the variable is found with status {get}, attributes {attributes:#x}, size {size}"
    );
    check_names();
    boots
}

/// All names, each once, and then an end.
fn check_names() {
    let mut ours = 0;
    let mut status = command(FIRST_NAME, 0, 0);
    for _ in 0..1000 {
        if status != SUCCESS {
            break;
        }
        let name: [u16; VARIABLE.len()] = read(NAME);
        ours += u32::from(name == VARIABLE && read::<[u8; 16]>(COMMAND + 28) == GUID);
        status = call(NEXT_NAME, 0x1000);
    }
    check!(
        status == NOT_FOUND && ours == 1,
        "our variable was named {ours} times; the end has status {status}"
    );
}

pub fn set_register(register: u32, data: u32) {
    out32(REGISTER, register);
    out32(DATA, data);
}

fn register(register: u32) -> u32 {
    out32(REGISTER, register);
    in32(DATA)
}

/// A command about our variable, with so many bytes of the buffer.
fn command(command: u32, attributes: u32, data_len: u32) -> u64 {
    (0..64).for_each(|at| write(COMMAND + at, 0u8));
    write(NAME, VARIABLE);
    write(COMMAND + 12, attributes);
    write(COMMAND + 16, NAME);
    write(COMMAND + 28, GUID);
    write(COMMAND + 44, BUFFER);
    write(COMMAND + 52, data_len);
    let name_len = if command == FIRST_NAME { 0x1000 } else { size_of_val(&VARIABLE) as u32 };
    call(command, name_len)
}

/// Has the device carry out the command in its page.
fn call(command: u32, name_len: u32) -> u64 {
    write(COMMAND, command);
    write(COMMAND + 4, u64::MAX);
    write(COMMAND + 24, name_len);
    out32(REGISTER, NVRAM_COMMAND);
    out32(DATA, COMMAND as u32);
    read(COMMAND + 4)
}
