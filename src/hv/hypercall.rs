//! The hypercalls that KVM leaves to user space: HvPostMessage, and HvSignalEvent when no eventfd took it.
//!
//! Called by [`super::exits`]. The input lies in guest memory: it is copied, then checked, then used.

use devices::hvdef::{HvStatus, MESSAGE_PAYLOAD_MAX, PostMessageInput, hypercall};
use devices::mem::GuestRam;
use devices::vmbus::bus::MessagePort;
use vm_memory::{Bytes, GuestAddress};
use zerocopy::{FromZeros, IntoBytes};

/// A hypercall, decoded from its control word and first parameter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hypercall {
    /// HvPostMessage with its input at this guest-physical address.
    PostMessage(u64),
    /// HvSignalEvent on this connection id.
    SignalEvent(u32),
    /// Refused as it stands.
    Refused(HvStatus),
}

impl Hypercall {
    /// Decodes what KVM hands over. KVM has loaded the parameter of HvSignalEvent already, also in its slow form.
    #[must_use]
    pub fn decode(control: u64, parameter: u64) -> Self {
        let [c0, c1, ..] = control.to_le_bytes();
        let [p0, p1, p2, p3, _, _, p6, p7] = parameter.to_le_bytes();
        match u16::from_le_bytes([c0, c1]) {
            // 256 bytes do not fit into registers.
            hypercall::POST_MESSAGE if control & hypercall::FAST != 0 => {
                Hypercall::Refused(HvStatus::InvalidHypercallCode)
            }
            hypercall::POST_MESSAGE => Hypercall::PostMessage(parameter),
            // Bytes 4 and 5 are a flag number, which no VMBus client uses; the last two are reserved.
            hypercall::SIGNAL_EVENT if [p6, p7] != [0, 0] => {
                Hypercall::Refused(HvStatus::InvalidHypercallInput)
            }
            hypercall::SIGNAL_EVENT => Hypercall::SignalEvent(u32::from_le_bytes([p0, p1, p2, p3])),
            _ => Hypercall::Refused(HvStatus::InvalidHypercallCode),
        }
    }
}

/// Hands the message at `address` to the bus.
#[must_use]
pub fn post_message(ram: &GuestRam, address: u64, bus: &MessagePort) -> HvStatus {
    if !address.is_multiple_of(8) {
        return HvStatus::InvalidAlignment;
    }
    let mut input = PostMessageInput::new_zeroed();
    if ram.read_slice(input.as_mut_bytes(), GuestAddress(address)).is_err() {
        return HvStatus::InvalidParameter;
    }
    let mut payload = [0; MESSAGE_PAYLOAD_MAX];
    let Some(payload) = payload.get_mut(..input.payload_size.get() as usize) else {
        return HvStatus::InvalidHypercallInput;
    };
    let start = address.checked_add(size_of::<PostMessageInput>() as u64);
    match start.map(|start| ram.read_slice(payload, GuestAddress(start))) {
        Some(Ok(())) => bus.post(input.connection_id.get(), input.message_type.get(), payload),
        _ => HvStatus::InvalidParameter,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use devices::testing::TestGuest;
    use devices::vmbus::protocol::message_type;

    const POST_MESSAGE: u64 = 0x5C;
    const SIGNAL_EVENT: u64 = 0x5D;
    const FAST: u64 = 1 << 16;
    const ADDRESS: u64 = 0x3000;

    fn write_input(guest: &TestGuest, address: u64, connection_id: u32, payload_size: u32) {
        let input = PostMessageInput {
            connection_id: connection_id.into(),
            reserved: 0.into(),
            message_type: 1.into(),
            payload_size: payload_size.into(),
        };
        guest.ram().write_slice(input.as_bytes(), GuestAddress(address)).unwrap();
    }

    fn post(guest: &TestGuest, address: u64) -> HvStatus {
        post_message(guest.ram(), address, &guest.bus.port())
    }

    #[test]
    fn hypercalls_are_told_apart_by_code_and_form() {
        assert_eq!(Hypercall::decode(POST_MESSAGE, ADDRESS), Hypercall::PostMessage(ADDRESS));
        let fast = Hypercall::decode(POST_MESSAGE | FAST, ADDRESS);
        assert_eq!(fast, Hypercall::Refused(HvStatus::InvalidHypercallCode));
        assert_eq!(Hypercall::decode(SIGNAL_EVENT | FAST, 0x2005), Hypercall::SignalEvent(0x2005));
        assert_eq!(Hypercall::decode(SIGNAL_EVENT, 7 << 32 | 0x2005), Hypercall::SignalEvent(0x2005));
        let reserved = Hypercall::decode(SIGNAL_EVENT, 1 << 48 | 0x2005);
        assert_eq!(reserved, Hypercall::Refused(HvStatus::InvalidHypercallInput));
        assert_eq!(Hypercall::decode(0x46, 0), Hypercall::Refused(HvStatus::InvalidHypercallCode));
    }

    #[test]
    fn a_message_reaches_the_bus() {
        let mut guest = TestGuest::default();
        write_input(&guest, ADDRESS, 1, 40);
        let mut contact = [0; 40];
        contact[0] = 14; // INITIATE_CONTACT
        contact[8..12].copy_from_slice(&0x0004_0000u32.to_le_bytes());
        guest.ram().write_slice(&contact, GuestAddress(ADDRESS + 16)).unwrap();
        assert_eq!(post(&guest, ADDRESS), HvStatus::Success);
        let answer = guest.try_receive().unwrap();
        assert_eq!(u32::from(answer.payload[0]), message_type::VERSION_RESPONSE);
    }

    #[test]
    fn a_message_that_is_not_there_whole_is_refused() {
        let guest = TestGuest::default();
        let end = 64 << 20;
        assert_eq!(post(&guest, ADDRESS + 4), HvStatus::InvalidAlignment);
        assert_eq!(post(&guest, end), HvStatus::InvalidParameter);
        assert_eq!(post(&guest, u64::MAX - 7), HvStatus::InvalidParameter);
        write_input(&guest, end - 16, 1, 40);
        assert_eq!(post(&guest, end - 16), HvStatus::InvalidParameter);
        write_input(&guest, ADDRESS, 1, 241);
        assert_eq!(post(&guest, ADDRESS), HvStatus::InvalidHypercallInput);
        write_input(&guest, ADDRESS, 1, u32::MAX);
        assert_eq!(post(&guest, ADDRESS), HvStatus::InvalidHypercallInput);
        write_input(&guest, ADDRESS, 3, 40);
        assert_eq!(post(&guest, ADDRESS), HvStatus::InvalidConnectionId);
    }
}
