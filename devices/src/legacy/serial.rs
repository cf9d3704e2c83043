//! The serial console: a 16550A (vm-superio) with a queue for what the terminal sends.
//!
//! The UART's own buffer has 64 bytes and a guest may not look at it for long. Input waits in the queue; when
//! that is full, [`Serial::room`] says so, the terminal is no longer read, and [`Serial::drained`] is signalled
//! once there is room again. Nothing that was typed or piped in is ever dropped.

use std::collections::VecDeque;
use std::fmt;
use std::io::{self, Write};

use vm_superio::Trigger;
use vm_superio::serial::NoEvents;
use vmm_sys_util::eventfd::{EFD_NONBLOCK, EventFd};

use super::PortDevice;
use crate::guest_warn;

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
    uart: vm_superio::Serial<Interrupt, NoEvents, Box<dyn Write + Send>>,
    /// Bytes of the UART's empty buffer.
    fifo: usize,
    queue: VecDeque<u8>,
    drained: EventFd,
    /// Somebody found no room and waits.
    waiting: bool,
}

impl Serial {
    /// Ports of the device.
    pub const PORTS: u16 = 8;

    /// A port that raises its interrupt by `irq` and sends what the guest writes to `output`.
    ///
    /// # Errors
    /// When the host gives no event descriptor.
    pub fn new(irq: EventFd, output: Box<dyn Write + Send>) -> io::Result<Self> {
        let uart = vm_superio::Serial::new(Interrupt(irq), output);
        let fifo = uart.fifo_capacity();
        let drained = EventFd::new(EFD_NONBLOCK)?;
        Ok(Serial { uart, fifo, queue: VecDeque::new(), drained, waiting: false })
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

    /// Moves input to the UART once its buffer is empty: one interrupt for a buffer full, not one a byte.
    fn refill(&mut self) {
        while !self.queue.is_empty() && self.uart.fifo_capacity() == self.fifo {
            let (front, _) = self.queue.as_slices();
            let result = self.uart.enqueue_raw_bytes(front);
            // Even after an error: what failed was the interrupt, the bytes are in the buffer.
            let taken = self.fifo - self.uart.fifo_capacity();
            self.queue.drain(..taken);
            if let Err(error) = result {
                guest_warn!("Serial console: {error}");
            }
            if taken == 0 {
                break; // loopback: the line is cut, the input waits
            }
        }
        if self.waiting && self.queue.len() <= QUEUE / 2 {
            self.waiting = false;
            if let Err(error) = self.drained.write(1) {
                guest_warn!("Serial console: cannot wake the terminal: {error}");
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
            *byte = self.uart.read(u8::try_from(offset).unwrap_or(u8::MAX));
        }
        self.refill();
    }

    fn write(&mut self, offset: u16, data: &[u8]) {
        for (offset, &byte) in (offset..).zip(data) {
            if let Err(error) = self.uart.write(u8::try_from(offset).unwrap_or(u8::MAX), byte) {
                guest_warn!("Serial console: {error}");
            }
        }
        self.refill();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::{Arc, Mutex};

    const DATA: u16 = 0;
    const IER: u16 = 1;
    const MCR: u16 = 4;
    const LSR: u16 = 5;

    #[derive(Clone, Default)]
    struct Output(Arc<Mutex<Vec<u8>>>);

    impl Write for Output {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().extend(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
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
        assert_eq!(*output.0.lock().unwrap(), b"hello");
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
}
