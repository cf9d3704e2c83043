//! A serial port: a 16550A (vm-superio) with a queue for what the terminal sends.
//!
//! The UART's own buffer has 64 bytes and a guest may not look at it for long. Input waits in the queue; when
//! that is full, [`Serial::room`] says so, the terminal is no longer read, and [`Serial::drained`] is signalled
//! once there is room again. Nothing that was typed or piped in is ever dropped.
//!
//! Output never waits, either: while its [`SerialOutput`] has no room, the guest finds the transmitter busy, and
//! [`Serial::resume`] raises the transmitter's interrupt when there is some. Drivers wait for the one or the other;
//! Linux' messages of the kernel do for 10 ms a byte. What is sent all the same is lost, as on a wire, and counted.

use std::collections::VecDeque;
use std::fmt;
use std::io::{self, Write};

use vm_superio::Trigger;
use vm_superio::serial::NoEvents;
use vmm_sys_util::eventfd::{EFD_NONBLOCK, EventFd};

use super::PortDevice;
use crate::guest_warn;

/// Where a port's output goes. Takes bytes at once or fails with [`io::ErrorKind::WouldBlock`].
pub trait SerialOutput: Write + Send {
    /// Whether it takes as many bytes as a UART's buffer has. After a no, somebody calls [`Serial::resume`] in time.
    fn has_room(&self) -> bool;
}

/// A port that leads nowhere.
impl SerialOutput for io::Sink {
    fn has_room(&self) -> bool {
        true
    }
}

/// Registers that this file looks at, by their offset.
const IER: u8 = 1;
const LCR: u8 = 3;
const LSR: u8 = 5;

/// Bit of LCR: other registers are in the place of the first two.
const LCR_DLAB: u8 = 1 << 7;

/// Bits of LSR: the transmitter's register, and all of it, is empty.
const LSR_TRANSMITTER_EMPTY: u8 = 0b11 << 5;

/// Bytes that wait before the terminal has to.
const QUEUE: usize = 4096;

struct Interrupt(EventFd);

impl Trigger for Interrupt {
    type E = io::Error;

    fn trigger(&self) -> io::Result<()> {
        self.0.write(1)
    }
}

/// A serial port.
pub struct Serial {
    uart: vm_superio::Serial<Interrupt, NoEvents, Box<dyn SerialOutput>>,
    /// Bytes of the UART's empty buffer.
    fifo: usize,
    queue: VecDeque<u8>,
    drained: EventFd,
    /// Somebody found no room and waits.
    waiting: bool,
    /// Bytes of output that found no room since the last [`Serial::resume`].
    lost: u64,
}

impl Serial {
    /// Ports of the device.
    pub const PORTS: u16 = 8;

    /// A port that raises its interrupt by `irq` and sends what the guest writes to `output`.
    ///
    /// # Errors
    /// When the host gives no event descriptor.
    pub fn new(irq: EventFd, output: Box<dyn SerialOutput>) -> io::Result<Self> {
        let uart = vm_superio::Serial::new(Interrupt(irq), output);
        let fifo = uart.fifo_capacity();
        let drained = EventFd::new(EFD_NONBLOCK)?;
        Ok(Serial { uart, fifo, queue: VecDeque::new(), drained, waiting: false, lost: 0 })
    }

    /// Bytes that [`Serial::send`] takes now. After a zero, wait for [`Serial::drained`].
    pub fn room(&mut self) -> usize {
        let room = QUEUE.saturating_sub(self.queue.len());
        self.waiting = room == 0;
        room
    }

    /// Signalled when there is room again after [`Serial::room`] said zero.
    #[must_use]
    pub fn drained(&self) -> &EventFd {
        &self.drained
    }

    /// Queues input for the guest: all of it, even beyond [`Serial::room`].
    pub fn send(&mut self, input: &[u8]) {
        self.queue.extend(input);
        self.refill();
    }

    /// The output has room again: tells the guest.
    pub fn resume(&mut self) {
        if self.lost > 0 {
            guest_warn!("Serial port: {} bytes are lost that the guest sent without waiting", self.lost);
            self.lost = 0;
        }
        // Enabled anew, the interrupt of an empty transmitter is raised anew.
        let lcr = self.uart.read(LCR);
        self.write_register(LCR, lcr & !LCR_DLAB);
        let ier = self.uart.read(IER);
        self.write_register(IER, ier);
        self.write_register(LCR, lcr);
    }

    fn write_register(&mut self, offset: u8, byte: u8) {
        match self.uart.write(offset, byte) {
            Ok(()) => {}
            Err(vm_superio::serial::Error::IOError(error)) if error.kind() == io::ErrorKind::WouldBlock => {
                self.lost += 1;
            }
            Err(error) => guest_warn!("Serial port: {error}"),
        }
    }

    fn read_register(&mut self, offset: u8) -> u8 {
        let value = self.uart.read(offset);
        if offset == LSR && !self.uart.writer().has_room() { value & !LSR_TRANSMITTER_EMPTY } else { value }
    }

    /// Moves input to the UART once its buffer is empty: one interrupt for a buffer full, not one a byte.
    fn refill(&mut self) {
        while !self.queue.is_empty() && self.uart.fifo_capacity() == self.fifo {
            let (front, _) = self.queue.as_slices();
            let result = self.uart.enqueue_raw_bytes(front);
            // Even after an error: what failed was the interrupt, the bytes are in the buffer.
            let taken = self.fifo - self.uart.fifo_capacity();
            self.queue.drain(..taken);
            if let Err(error) = result {
                guest_warn!("Serial port: {error}");
            }
            if taken == 0 {
                break; // loopback: the line is cut, the input waits
            }
        }
        if self.waiting && self.queue.len() <= QUEUE / 2 {
            self.waiting = false;
            if let Err(error) = self.drained.write(1) {
                guest_warn!("Serial port: cannot wake the terminal: {error}");
            }
        }
    }
}

impl fmt::Debug for Serial {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Serial").field("queued", &self.queue.len()).finish_non_exhaustive()
    }
}

impl PortDevice for Serial {
    fn read(&mut self, offset: u16, data: &mut [u8]) {
        for (offset, byte) in (offset..).zip(data) {
            *byte = self.read_register(u8::try_from(offset).unwrap_or(u8::MAX));
        }
        self.refill();
    }

    fn write(&mut self, offset: u16, data: &[u8]) {
        for (offset, &byte) in (offset..).zip(data) {
            self.write_register(u8::try_from(offset).unwrap_or(u8::MAX), byte);
        }
        self.refill();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicBool, Ordering};
    use std::sync::{Arc, Mutex};

    const DATA: u16 = 0;
    const IER: u16 = 1;
    const IIR: u16 = 2;
    const LCR: u16 = 3;
    const MCR: u16 = 4;
    const LSR: u16 = 5;

    #[derive(Clone, Default)]
    struct Output {
        bytes: Arc<Mutex<Vec<u8>>>,
        full: Arc<AtomicBool>,
    }

    impl Write for Output {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            if !self.has_room() {
                return Err(io::ErrorKind::WouldBlock.into());
            }
            self.bytes.lock().unwrap().extend(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    impl SerialOutput for Output {
        fn has_room(&self) -> bool {
            !self.full.load(Ordering::Relaxed)
        }
    }

    fn serial() -> (Serial, EventFd, Output) {
        let irq = EventFd::new(EFD_NONBLOCK).unwrap();
        let output = Output::default();
        let serial = Serial::new(irq.try_clone().unwrap(), Box::new(output.clone())).unwrap();
        (serial, irq, output)
    }

    fn get(serial: &mut Serial, offset: u16) -> u8 {
        let mut data = [0];
        serial.read(offset, &mut data);
        data[0]
    }

    /// Reads as a driver does: while data is ready.
    fn drain(serial: &mut Serial) -> Vec<u8> {
        let mut bytes = Vec::new();
        while get(serial, LSR) & 1 != 0 {
            bytes.push(get(serial, DATA));
        }
        bytes
    }

    #[test]
    fn output_reaches_the_terminal() {
        let (mut serial, _, output) = serial();
        for byte in b"hello" {
            serial.write(DATA, &[*byte]);
        }
        assert_eq!(*output.bytes.lock().unwrap(), b"hello");
    }

    #[test]
    fn input_raises_the_interrupt_once_enabled() {
        let (mut serial, irq, _) = serial();
        serial.send(b"x");
        assert!(irq.read().is_err(), "not enabled yet");
        serial.write(IER, &[1]);
        assert!(irq.read().is_ok());
        assert_eq!(drain(&mut serial), b"x");
    }

    #[test]
    fn a_large_paste_arrives_complete_and_in_order() {
        let (mut serial, _, _) = serial();
        let paste: Vec<u8> = (0..20_000u32).map(|i| (i % 251) as u8).collect();
        let mut received = Vec::new();
        let mut rest = paste.as_slice();
        while !rest.is_empty() || get(&mut serial, LSR) & 1 != 0 {
            let (now, later) = rest.split_at(serial.room().min(rest.len()));
            serial.send(now);
            rest = later;
            received.push(get(&mut serial, DATA));
        }
        assert_eq!(received, paste);
    }

    #[test]
    fn a_full_queue_asks_to_wait_and_tells_when_it_drained() {
        let (mut serial, _, _) = serial();
        let mut sent = 0;
        while serial.room() > 0 {
            let input = vec![7; serial.room()];
            serial.send(&input);
            sent += input.len();
        }
        assert!(serial.drained().read().is_err());
        assert_eq!(drain(&mut serial).len(), sent);
        assert!(serial.drained().read().is_ok());
        assert!(serial.room() > 0);
    }

    #[test]
    fn input_survives_a_loopback_test() {
        let (mut serial, _, _) = serial();
        serial.write(MCR, &[0x10]);
        serial.send(b"typed");
        serial.write(DATA, b"l");
        assert_eq!(drain(&mut serial), b"l");
        serial.write(MCR, &[0]);
        assert_eq!(drain(&mut serial), b"typed");
    }

    #[test]
    fn output_without_a_reader_waits_in_the_guest() {
        const THR_EMPTY: u8 = 1 << 5;
        let (mut serial, irq, output) = serial();
        serial.write(IER, &[2]);
        get(&mut serial, IIR);
        irq.read().unwrap();
        output.full.store(true, Ordering::Relaxed);
        assert_eq!(get(&mut serial, LSR) & THR_EMPTY, 0);
        // Sent all the same, it is lost.
        serial.write(DATA, b"x");
        get(&mut serial, IIR);
        let _ = irq.read();
        output.full.store(false, Ordering::Relaxed);
        // The registers may show something else at that moment.
        serial.write(LCR, &[0x83]);
        serial.resume();
        assert_eq!(get(&mut serial, LCR), 0x83);
        serial.write(LCR, &[3]);
        irq.read().expect("the guest is told");
        assert_eq!(get(&mut serial, IIR) & 0xf, 2);
        assert_ne!(get(&mut serial, LSR) & THR_EMPTY, 0);
        serial.write(DATA, b"y");
        assert_eq!(*output.bytes.lock().unwrap(), b"y");
        assert_eq!(get(&mut serial, IER), 2);
    }
}
