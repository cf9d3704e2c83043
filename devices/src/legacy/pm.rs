//! The ACPI power management block of a generation 2 machine: PM1, PM timer, GPE0, reset.
//!
//! ```text
//! 0x00 PM1 status (16)   0x04 PM1 control (16)   0x0c GPE0 status (16)   0x33 reset (8)
//! 0x02 PM1 enable (16)   0x08 PM timer (32)      0x0e GPE0 enable (16)
//! ```
//!
//! Status bits are cleared by writing ones to them (ACPI 6.5, 4.8.3). The system control interrupt is a level:
//! it is asserted as long as some status bit is set whose enable bit is set too.

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::{PortDevice, PowerEvents};
use crate::guest_warn;

/// Offset of PM1 status and enable.
pub const PM1_STATUS: u16 = 0x00;
/// Offset of PM1 control.
pub const PM1_CONTROL: u16 = 0x04;
/// Offset of the PM timer.
pub const TIMER: u16 = 0x08;
/// Offset of GPE0 status and enable.
pub const GPE0_STATUS: u16 = 0x0c;
/// Offset of the reset register.
pub const RESET: u16 = 0x33;
/// What resets the machine when written to [`RESET`].
pub const RESET_VALUE: u8 = 1;

/// General purpose event of a changed generation id: `\_GPE._E00` of the firmware's DSDT notifies its device.
pub const GPE_GENERATION_ID: u16 = 0;

/// `SLP_TYP` of S5, soft off.
const SLEEP_S5: u16 = 0;
/// `SLP_TYP` of S4, hibernation.
const SLEEP_S4: u16 = 1;

const PM1_ENABLE: u16 = PM1_STATUS + 2;
const GPE0_ENABLE: u16 = GPE0_STATUS + 2;
const PWRBTN: u16 = 1 << 8;
/// Enable bits that exist: timer, global, power button, sleep button, RTC.
const PM1_ENABLE_BITS: u16 = 0x0721;
const SCI_EN: u16 = 1 << 0;
const SLP_TYP_SHIFT: u16 = 10;
const SLP_TYP_MASK: u16 = 0b111;
const SLP_EN: u16 = 1 << 13;

const TIMER_HZ: u128 = 3_579_545;

/// Time since some fixed moment.
type Clock = Box<dyn Fn() -> Duration + Send>;

/// The registers; see the module for their layout.
pub struct PowerManagement {
    pm1_status: u16,
    pm1_enable: u16,
    pm1_control: u16,
    gpe0_status: u16,
    gpe0_enable: u16,
    sci: bool,
    clock: Clock,
    events: Arc<dyn PowerEvents>,
}

impl fmt::Debug for PowerManagement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PowerManagement")
            .field("pm1_status", &self.pm1_status)
            .field("pm1_enable", &self.pm1_enable)
            .field("pm1_control", &self.pm1_control)
            .field("gpe0_status", &self.gpe0_status)
            .field("gpe0_enable", &self.gpe0_enable)
            .finish_non_exhaustive()
    }
}

impl PowerManagement {
    /// Ports of the block.
    pub const PORTS: u16 = 0x34;

    /// Registers after power-on; the PM timer starts now.
    #[must_use]
    pub fn new(events: Arc<dyn PowerEvents>) -> Self {
        let start = Instant::now();
        Self::with_clock(events, Box::new(move || start.elapsed()))
    }

    fn with_clock(events: Arc<dyn PowerEvents>, clock: Clock) -> Self {
        PowerManagement {
            pm1_status: 0,
            pm1_enable: 0,
            // Without SMI_CMD in the FADT the machine is in ACPI mode from the start.
            pm1_control: SCI_EN,
            gpe0_status: 0,
            gpe0_enable: 0,
            sci: false,
            clock,
            events,
        }
    }

    /// Somebody on the host presses the power button.
    pub fn press_power_button(&mut self) {
        self.pm1_status |= PWRBTN;
        self.update_sci();
    }

    /// Raises general purpose event `bit`, 0 to 15.
    pub fn raise_gpe(&mut self, bit: u16) {
        self.gpe0_status |= 1u16.checked_shl(bit.into()).unwrap_or(0);
        self.update_sci();
    }

    fn update_sci(&mut self) {
        let pending = self.pm1_status & self.pm1_enable | self.gpe0_status & self.gpe0_enable;
        if self.sci != (pending != 0) {
            self.sci = pending != 0;
            self.events.set_sci(self.sci);
        }
    }

    fn timer(&self) -> u32 {
        let ticks = (self.clock)().as_nanos() * TIMER_HZ / 1_000_000_000;
        u32::try_from(ticks & u128::from(u32::MAX)).unwrap_or(0)
    }

    /// All registers at one moment, as they lie from offset 0 on.
    fn image(&self) -> [[u8; 2]; 8] {
        let [a, b, c, d] = self.timer().to_le_bytes();
        [
            self.pm1_status.to_le_bytes(),
            self.pm1_enable.to_le_bytes(),
            self.pm1_control.to_le_bytes(),
            [0, 0],
            [a, b],
            [c, d],
            self.gpe0_status.to_le_bytes(),
            self.gpe0_enable.to_le_bytes(),
        ]
    }

    /// Writes one byte; the byte's bits sit at their place in `value`, and `mask` covers that byte.
    fn write_byte(&mut self, offset: u16, byte: u8) {
        let shift = offset % 2 * 8;
        let (value, mask) = (u16::from(byte) << shift, 0xffu16 << shift);
        match offset & !1 {
            PM1_STATUS => self.pm1_status &= !value,
            PM1_ENABLE => self.pm1_enable = self.pm1_enable & !mask | value & PM1_ENABLE_BITS,
            PM1_CONTROL => self.pm1_control = self.pm1_control & !mask | value & !SLP_EN | SCI_EN,
            GPE0_STATUS => self.gpe0_status &= !value,
            GPE0_ENABLE => self.gpe0_enable = self.gpe0_enable & !mask | value,
            _ => {}
        }
        if offset & !1 == PM1_CONTROL && value & SLP_EN != 0 {
            self.sleep();
        }
        if offset == RESET && byte & RESET_VALUE != 0 {
            self.events.reset();
        }
    }

    fn sleep(&self) {
        match self.pm1_control >> SLP_TYP_SHIFT & SLP_TYP_MASK {
            SLEEP_S5 | SLEEP_S4 => self.events.power_off(),
            other => guest_warn!("The guest enters sleep type {other}, which this machine does not have"),
        }
    }
}

impl PortDevice for PowerManagement {
    fn read(&mut self, offset: u16, data: &mut [u8]) {
        let image = self.image();
        for (offset, byte) in (usize::from(offset)..).zip(data) {
            *byte = image.as_flattened().get(offset).copied().unwrap_or(0);
        }
    }

    fn write(&mut self, offset: u16, data: &[u8]) {
        for (offset, &byte) in (offset..).zip(data) {
            self.write_byte(offset, byte);
        }
        self.update_sci();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::legacy::fake::Recorder;
    use std::sync::atomic::{AtomicU64, Ordering};

    fn device() -> (PowerManagement, Recorder) {
        let events = Recorder::default();
        (PowerManagement::new(Arc::new(events.clone())), events)
    }

    fn read_u16(pm: &mut PowerManagement, offset: u16) -> u16 {
        let mut data = [0; 2];
        pm.read(offset, &mut data);
        u16::from_le_bytes(data)
    }

    #[test]
    fn sleep_s5_powers_off_and_only_with_the_enable_bit() {
        let (mut pm, events) = device();
        pm.write(PM1_CONTROL, &0u16.to_le_bytes());
        assert!(events.take().is_empty());
        pm.write(PM1_CONTROL, &SLP_EN.to_le_bytes());
        assert_eq!(events.take(), ["power off"]);
        // SLP_EN is write-only, SCI_EN cannot be left.
        assert_eq!(read_u16(&mut pm, PM1_CONTROL), SCI_EN);
    }

    #[test]
    fn sleep_s4_powers_off_and_unknown_types_do_nothing() {
        let (mut pm, events) = device();
        pm.write(PM1_CONTROL, &(SLP_EN | 1 << SLP_TYP_SHIFT).to_le_bytes());
        assert_eq!(events.take(), ["power off"]);
        pm.write(PM1_CONTROL, &(SLP_EN | 5 << SLP_TYP_SHIFT).to_le_bytes());
        assert!(events.take().is_empty());
    }

    #[test]
    fn reset_register_resets_on_one() {
        let (mut pm, events) = device();
        pm.write(RESET, &[0]);
        assert!(events.take().is_empty());
        pm.write(RESET, &[RESET_VALUE]);
        assert_eq!(events.take(), ["reset"]);
    }

    #[test]
    fn power_button_raises_sci_until_its_status_is_cleared() {
        let (mut pm, events) = device();
        pm.press_power_button();
        assert!(events.take().is_empty(), "nobody enabled it");
        pm.write(PM1_ENABLE, &PWRBTN.to_le_bytes());
        assert_eq!(events.take(), ["SCI"]);
        assert_eq!(read_u16(&mut pm, PM1_STATUS), PWRBTN);
        pm.press_power_button();
        pm.write(PM1_STATUS, &(!PWRBTN).to_le_bytes());
        assert!(events.take().is_empty(), "the level has not changed");
        pm.write(PM1_STATUS, &PWRBTN.to_le_bytes());
        assert_eq!(events.take(), ["no SCI"]);
        assert_eq!(read_u16(&mut pm, PM1_STATUS), 0);
    }

    #[test]
    fn general_purpose_events_share_the_sci() {
        let (mut pm, events) = device();
        pm.write(GPE0_ENABLE, &[1, 0]);
        pm.raise_gpe(0);
        pm.raise_gpe(9);
        assert_eq!(events.take(), ["SCI"]);
        assert_eq!(read_u16(&mut pm, GPE0_STATUS), 0x201);
        pm.write(GPE0_STATUS, &[1]);
        assert_eq!(events.take(), ["no SCI"]);
        assert_eq!(read_u16(&mut pm, GPE0_STATUS), 0x200);
    }

    #[test]
    fn registers_can_be_written_byte_by_byte() {
        let (mut pm, _) = device();
        pm.write(PM1_ENABLE + 1, &[0xff]);
        pm.write(PM1_ENABLE, &[0x20]);
        assert_eq!(read_u16(&mut pm, PM1_ENABLE), PM1_ENABLE_BITS & 0xff20);
        pm.write(GPE0_ENABLE, &[0xcd, 0xab]);
        pm.write(GPE0_ENABLE + 1, &[0x12]);
        assert_eq!(read_u16(&mut pm, GPE0_ENABLE), 0x12cd);
    }

    #[test]
    fn pm_timer_counts_at_its_frequency_and_wraps() {
        let nanos = Arc::new(AtomicU64::new(0));
        let clock = nanos.clone();
        let clock = Box::new(move || Duration::from_nanos(clock.load(Ordering::Relaxed)));
        let mut pm = PowerManagement::with_clock(Arc::new(Recorder::default()), clock);
        let mut read_at = |seconds: u64| {
            nanos.store(seconds * 1_000_000_000, Ordering::Relaxed);
            let mut data = [0; 4];
            pm.read(TIMER, &mut data);
            u32::from_le_bytes(data)
        };
        assert_eq!([read_at(0), read_at(1), read_at(2)], [0, 3_579_545, 7_159_090]);
        assert_eq!(u64::from(read_at(2000)), 2000 * 3_579_545 % (1 << 32));
    }

    #[test]
    fn holes_read_zero_and_swallow_writes() {
        let (mut pm, events) = device();
        for offset in [6, 0x10, 0x20, 0x32] {
            pm.write(offset, &[0xff]);
            let mut data = [0xee];
            pm.read(offset, &mut data);
            assert_eq!(data, [0], "{offset:#x}");
        }
        assert!(events.take().is_empty());
    }
}
