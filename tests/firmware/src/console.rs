//! The serial port, and what is said to the tests.

use core::fmt::{self, Write};

use crate::machine::{in8, out8};

const COM1: u16 = 0x3f8;
const LINE_STATUS: u16 = COM1 + 5;
const DATA_READY: u8 = 1 << 0;
const TRANSMIT_EMPTY: u8 = 1 << 5;

/// COM1, polled.
pub struct Serial;

impl Write for Serial {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for byte in text.bytes() {
            while in8(LINE_STATUS) & TRANSMIT_EMPTY == 0 {}
            out8(COM1, byte);
        }
        Ok(())
    }
}

/// A line that was typed.
pub struct Line {
    bytes: [u8; 32],
    len: usize,
}

impl Line {
    pub fn as_str(&self) -> &str {
        core::str::from_utf8(&self.bytes[..self.len]).unwrap_or("?").trim()
    }
}

/// Waits for a line; what is too long for one is cut off.
pub fn line() -> Line {
    let mut line = Line { bytes: [0; 32], len: 0 };
    loop {
        while in8(LINE_STATUS) & DATA_READY == 0 {}
        match in8(COM1) {
            b'\r' | b'\n' => return line,
            byte if line.len < line.bytes.len() => {
                line.bytes[line.len] = byte;
                line.len += 1;
            }
            _ => {}
        }
    }
}

/// Says a line.
macro_rules! say {
    ($($words:tt)*) => {{
        use core::fmt::Write;
        let mut serial = crate::console::Serial;
        let _ = serial.write_fmt(format_args!($($words)*));
        let _ = serial.write_str("\r\n");
    }};
}

/// Tells the test a value.
macro_rules! value {
    ($name:literal, $($words:tt)*) => {
        crate::console::say!("lab: value {}={}", $name, format_args!($($words)*))
    };
}

/// Ends the test with a sentence unless something is so.
macro_rules! check {
    ($so:expr, $($words:tt)*) => {
        if !$so {
            crate::console::say!("lab: fail {}", format_args!($($words)*));
            crate::devices::power_off();
        }
    };
}

pub(crate) use {check, say, value};
