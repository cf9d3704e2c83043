//! Version negotiation.

use super::*;
use crate::vmbus::server::connection::VERSIONS;

const DROP: Out = Out::DropMessages;

fn answer(host: &mut Host, contact: &impl HostlessBody) -> (u32, u8) {
    let outs = host.post(&message(message_type::INITIATE_CONTACT, contact));
    assert_eq!(outs.first(), Some(&DROP));
    assert_eq!(outs.len(), 2, "{outs:?}");
    (host.messages[0].vp, host.messages[0].sint)
}

trait HostlessBody: IntoBytes + Immutable {}
impl HostlessBody for InitiateContact {}
impl HostlessBody for InitiateContact2 {}

#[test]
fn every_served_version_is_taken() {
    for &version in VERSIONS {
        let mut host = Host::new();
        assert_eq!(
            answer(&mut host, &contact(version)),
            (u32::from(version >= Version::V3_0), 2),
            "{version}"
        );
        let response = if version >= Version::V6_0 {
            let VersionResponse2 { response, features } = host.only();
            assert_eq!(features.get(), 0);
            response
        } else {
            host.only::<VersionResponse>()
        };
        let port = if version >= Version::V5_0 { 4 } else { version.0 };
        assert_eq!((response.supported, response.connection_state), (1, 0));
        assert_eq!(response.connection_id_or_version.get(), port);
        assert_eq!(host.server.connection().map(|connection| connection.version), Some(version));
    }
}

#[test]
fn the_answer_to_linux_6_1_is_that_of_the_worked_example() {
    let mut host = Host::new();
    let mut contact = contact(Version::V5_3);
    contact.target_vp = 0.into();
    assert_eq!(answer(&mut host, &contact), (0, 2));
    assert_eq!(host.messages[0].payload(), [0x0f, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 4, 0, 0, 0]);
}

#[test]
fn other_versions_are_refused_in_the_old_format() {
    for version in [0, 0x0d, 0x0001_0001, 0x0002_0003, 0x0004_0002, 0x0005_0004, 0x0006_0001, 0x0007_0000, !0]
    {
        let mut host = Host::new();
        answer(&mut host, &contact(Version(version)));
        let refusal = host.only::<VersionResponse>();
        assert_eq!(refusal.as_bytes(), [0; 8], "{version:#x}");
        assert!(host.server.is_idle());
        assert_eq!(host.refused(Refusal::Contact), 1);
    }
}

#[test]
fn linux_walks_down_until_a_version_is_taken() {
    let mut host = Host::new();
    answer(&mut host, &contact(Version(0x0005_0004)));
    answer(&mut host, &contact(Version::V4_1));
    assert_eq!(host.only::<VersionResponse>().supported, 1);
}

#[test]
fn features_are_those_that_both_sides_have() {
    for (asked, with_id, granted) in [
        (0, false, 0),
        (u32::MAX, false, 0x25),
        (u32::MAX, true, 0x2d),
        (0x8, false, 0),
        (0x8, true, 0x8),
        (0xd2, true, 0),
        (0x21, true, 0x21),
    ] {
        let mut host = Host::new();
        let mut contact = contact(Version::V6_0);
        contact.features = asked.into();
        let client_id = Guid::from_bytes([7; 16]);
        if with_id {
            answer(&mut host, &InitiateContact2 { contact, client_id });
        } else {
            answer(&mut host, &contact);
        }
        assert_eq!(host.only::<VersionResponse2>().features.get(), granted, "{asked:#x} {with_id}");
        let connection = host.server.connection().unwrap();
        assert_eq!(connection.client_id, (granted & 8 != 0).then_some(client_id));
    }
}

#[test]
fn features_do_not_exist_before_6_0() {
    let mut host = Host::new();
    let mut contact = contact(Version::V5_3);
    contact.features = u32::MAX.into();
    answer(&mut host, &contact);
    assert_eq!(host.only::<VersionResponse>().supported, 1);
    assert!(host.server.connection().unwrap().features.is_empty());
}

#[test]
fn another_sint_is_refused_where_the_guest_listens() {
    for (sint, answered_on) in [(0, 0), (1, 1), (3, 3), (15, 15), (16, 2), (255, 2)] {
        let mut host = Host::new();
        let mut contact = contact(Version::V5_3);
        contact.sint = sint;
        assert_eq!(answer(&mut host, &contact), (1, answered_on), "SINT {sint}");
        assert_eq!(host.only::<VersionResponse>().supported, 0);
    }
}

#[test]
fn another_vtl_is_refused() {
    let mut host = Host::new();
    let mut contact = contact(Version::V5_0);
    contact.vtl = 2;
    assert_eq!(answer(&mut host, &contact), (1, 2));
    assert_eq!(host.only::<VersionResponse>().supported, 0);
}

#[test]
fn an_interrupt_page_is_not_taken_for_a_sint() {
    let mut host = Host::new();
    let mut contact = contact(Version::V4_1);
    (contact.sint, contact.vtl, contact.features) = (0x77, 0x66, 0x1234.into());
    assert_eq!(answer(&mut host, &contact), (1, 2));
    assert_eq!(host.only::<VersionResponse>().supported, 1);
}

#[test]
fn uefi_firmware_waited_for_ever_because_it_names_no_sint_on_the_old_port() {
    let mut host = Host::new();
    let mut contact = contact(Version::V6_0);
    (contact.sint, contact.vtl, contact.features) = (0, 0, 8.into());
    let contact = InitiateContact2 { contact, client_id: Guid::from_bytes([7; 16]) };
    host.server.handle(MESSAGE_PORT, &message(message_type::INITIATE_CONTACT, &contact));
    host.outs();
    assert_eq!((host.messages[0].vp, host.messages[0].sint), (1, 2));
    let VersionResponse2 { response, features } = host.only();
    assert_eq!((response.supported, features.get()), (1, 8));
}

#[test]
fn messages_cannot_go_to_a_vp_that_there_is_not() {
    for vp in [VPS, u32::MAX] {
        let mut host = Host::new();
        let mut contact = contact(Version::V5_3);
        contact.target_vp = vp.into();
        assert_eq!(answer(&mut host, &contact), (0, 2));
        assert_eq!(host.only::<VersionResponse>().supported, 0);
        contact.version = Version::V2_4.0.into();
        assert_eq!(answer(&mut host, &contact), (0, 2), "2.4 does not say where");
        assert_eq!(host.only::<VersionResponse>().supported, 1);
    }
}

#[test]
fn monitor_pages_are_ignored() {
    let mut host = Host::new();
    let mut contact = contact(Version::V4_0);
    contact.child_to_parent_monitor_page = 0x123.into();
    answer(&mut host, &contact);
    assert_eq!(host.only::<VersionResponse>().as_bytes(), [1, 0, 0, 0, 0, 0, 4, 0]);
}
