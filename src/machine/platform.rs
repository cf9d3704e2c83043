//! The platform's register devices; [`Machine::build`](super::Machine::build) calls [`add`], which wires them all.

use std::io;
use std::sync::{Arc, Mutex};

use devices::legacy::{
    ABSENT_PORTS, Absent, Cmos, PortBus, PortDevice, PowerEvents, PowerManagement, ResetPulse, Serial,
    SerialOutput,
};
use kvm_ioctls::VmFd;

use super::MachineError;
use crate::events::{EventSender, MachineEvent};
use crate::hv::kvm::Partition;
use crate::layout::{gsi, port};

fn insert(
    ports: &mut PortBus,
    name: &'static str,
    (first, count): (u16, u16),
    device: impl PortDevice + 'static,
) -> Result<(), MachineError> {
    Ok(ports.insert(name, first, count, Arc::new(Mutex::new(device)))?)
}

/// A serial port.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SerialPort {
    /// The console.
    Com1,
    /// The other one.
    Com2,
}

/// Those that somebody on the host talks to.
pub(super) struct Registers {
    pub serial: [Arc<Mutex<Serial>>; 2],
    pub power: Arc<Mutex<PowerManagement>>,
}

/// Adds all of them; what the guest writes to its serial ports goes to `outputs`.
pub(super) fn add(
    ports: &mut PortBus,
    partition: &Partition,
    events: &EventSender,
    outputs: [Box<dyn SerialOutput>; 2],
) -> Result<Registers, MachineError> {
    let [com1, com2] = outputs;
    let com1 = add_serial(ports, partition, ("COM1", port::COM1, gsi::COM1), com1)?;
    let com2 = add_serial(ports, partition, ("COM2", port::COM2, gsi::COM2), com2)?;
    insert(ports, "CMOS clock", (port::CMOS, Cmos::PORTS), Cmos::new())?;
    let power = add_power(ports, partition, events)?;
    add_absent(ports)?;
    Ok(Registers { serial: [com1, com2], power })
}

fn add_serial(
    ports: &mut PortBus,
    partition: &Partition,
    (name, port, gsi): (&'static str, u16, u32),
    output: Box<dyn SerialOutput>,
) -> Result<Arc<Mutex<Serial>>, MachineError> {
    let serial = Arc::new(Mutex::new(Serial::new(partition.irq(gsi)?, output)?));
    ports.insert(name, port, Serial::PORTS, Arc::clone(&serial) as _)?;
    Ok(serial)
}

fn add_power(
    ports: &mut PortBus,
    partition: &Partition,
    events: &EventSender,
) -> Result<Arc<Mutex<PowerManagement>>, MachineError> {
    let power = Arc::new(Power { vm: Arc::clone(&partition.vm), events: events.try_clone()? });
    let registers = Arc::new(Mutex::new(PowerManagement::new(Arc::clone(&power) as _)));
    ports.insert("power management", port::PM, PowerManagement::PORTS, Arc::clone(&registers) as _)?;
    insert(ports, "reset pulse", (port::I8042_COMMAND, ResetPulse::PORTS), ResetPulse::new(power))?;
    Ok(registers)
}

fn add_absent(ports: &mut PortBus) -> Result<(), MachineError> {
    let absent = Arc::new(Mutex::new(Absent));
    for (name, first, count) in ABSENT_PORTS {
        ports.insert(name, first, count, Arc::clone(&absent) as _)?;
    }
    Ok(())
}

/// Takes what the guest's power management registers ask for to the control loop.
struct Power {
    vm: Arc<VmFd>,
    events: EventSender,
}

impl PowerEvents for Power {
    fn power_off(&self) {
        self.events.send(MachineEvent::PowerOff);
    }

    fn reset(&self) {
        self.events.send(MachineEvent::Reset);
    }

    fn set_sci(&self, asserted: bool) {
        if let Err(error) = self.vm.set_irq_line(gsi::SCI, asserted) {
            log::error!("The system control interrupt is lost: {}", io::Error::from(error));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_there_is_not_absent() {
        let there = [
            (port::COM1, Serial::PORTS),
            (port::COM2, Serial::PORTS),
            (port::CMOS, Cmos::PORTS),
            (port::PM, PowerManagement::PORTS),
            (port::I8042_COMMAND, ResetPulse::PORTS),
        ];
        for (name, first, count) in ABSENT_PORTS {
            let apart = |&(port, ports): &(u16, u16)| first + count <= port || port + ports <= first;
            assert!(there.iter().all(apart), "{name}");
        }
    }
}
