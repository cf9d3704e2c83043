//! The bodies of the control messages, in the order of their numbers; the parent module says how they are used.

use zerocopy::little_endian::{U16, U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use super::{Header, HostBody, message_type};
use crate::guid::Guid;

/// Defines a body; its size is given with the header, as the protocol's tables do, and asserted.
macro_rules! body {
    ($(#[$doc:meta])* $name:ident, $size:literal $(, host: $number:ident)?, {
        $($fields:tt)*
    }) => {
        $(#[$doc])*
        #[repr(C)]
        #[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
        pub struct $name {
            $($fields)*
        }

        const _: () = assert!(size_of::<Header>() + size_of::<$name>() == $size);

        $(impl HostBody for $name {
            const MESSAGE_TYPE: u32 = message_type::$number;
        })?
    };
}

body! {
    /// OFFER_CHANNEL.
    OfferChannel, 196, host: OFFER_CHANNEL, {
        /// Kind of device.
        pub interface: Guid,
        /// This device among its kind.
        pub instance: Guid,
        /// Always 0; the UEFI guest stops when it is not.
        pub reserved: [u8; 16],
        /// See [`OfferFlags`](crate::vmbus::channel::OfferFlags).
        pub flags: U16,
        /// MMIO that the driver is to reserve, MiB.
        pub mmio_megabytes: U16,
        /// For the driver.
        pub user_data: [u8; 120],
        /// 0 for the device's first channel.
        pub sub_channel: U16,
        /// Further MMIO; always 0.
        pub mmio_megabytes_optional: U16,
        /// The channel's id.
        pub channel: U32,
        /// Meaningless as no monitor is allocated.
        pub monitor_id: u8,
        /// Bit 0: use the monitor page. Always 0.
        pub monitor_allocated: u8,
        /// [`DEDICATED_INTERRUPT`](super::DEDICATED_INTERRUPT).
        pub dedicated_interrupt: U16,
        /// Connection id of the guest's doorbell.
        pub connection_id: U32,
    }
}

body! {
    /// RESCIND_CHANNEL_OFFER.
    RescindChannelOffer, 12, host: RESCIND_CHANNEL_OFFER, {
        /// The channel's id.
        pub channel: U32,
    }
}

body! {
    /// OPEN_CHANNEL.
    OpenChannel, 148, {
        /// The channel's id.
        pub channel: U32,
        /// Chosen by the guest, echoed in the answer.
        pub open_id: U32,
        /// The GPADL of both rings.
        pub ring_gpadl: U32,
        /// Virtual processor to interrupt, or [`VP_NONE`](super::VP_NONE).
        pub target_vp: U32,
        /// Page where the guest's incoming ring starts.
        pub downstream_page_offset: U32,
        /// For the device.
        pub user_data: [u8; 120],
    }
}

body! {
    /// OPEN_CHANNEL with [`GUEST_SPECIFIED_SIGNAL_PARAMETERS`](super::FeatureFlags::GUEST_SPECIFIED_SIGNAL_PARAMETERS).
    OpenChannel2, 156, {
        /// What every OPEN_CHANNEL has.
        pub open: OpenChannel,
        /// Connection id of the guest's doorbell.
        pub connection_id: U32,
        /// Event flag of the host's doorbell.
        pub event_flag: U16,
        /// Bit 0: redirect interrupts, a feature that is not served.
        pub flags: U16,
    }
}

body! {
    /// OPEN_CHANNEL_RESULT.
    OpenChannelResult, 20, host: OPEN_CHANNEL_RESULT, {
        /// The channel's id.
        pub channel: U32,
        /// As in the request.
        pub open_id: U32,
        /// A [`Status`](super::Status).
        pub status: U32,
    }
}

body! {
    /// CLOSE_CHANNEL and RELID_RELEASED.
    ChannelName, 12, {
        /// The channel's id.
        pub channel: U32,
    }
}

body! {
    /// GPADL_HEADER, in front of the first units of its ranges.
    GpadlHeader, 20, {
        /// The channel that the pages are for.
        pub channel: U32,
        /// Chosen by the guest.
        pub gpadl: U32,
        /// Bytes of all ranges; wraps when one range has more than 8190 pages.
        pub range_buflen: U16,
        /// Number of ranges.
        pub range_count: U16,
    }
}

body! {
    /// GPADL_BODY, in front of further units.
    GpadlBody, 16, {
        /// Counts nothing: Linux sends 0 in all of them.
        pub message_number: U32,
        /// As in the header.
        pub gpadl: U32,
    }
}

body! {
    /// GPADL_CREATED.
    GpadlCreated, 20, host: GPADL_CREATED, {
        /// As in the header.
        pub channel: U32,
        /// As in the header.
        pub gpadl: U32,
        /// A [`Status`](super::Status).
        pub status: U32,
    }
}

body! {
    /// GPADL_TEARDOWN.
    GpadlTeardown, 16, {
        /// As in the header.
        pub channel: U32,
        /// As in the header.
        pub gpadl: U32,
    }
}

body! {
    /// GPADL_TORNDOWN.
    GpadlTorndown, 12, host: GPADL_TORNDOWN, {
        /// As in the request.
        pub gpadl: U32,
    }
}

body! {
    /// INITIATE_CONTACT.
    InitiateContact, 40, {
        /// The [`Version`](super::Version) that the guest proposes.
        pub version: U32,
        /// Virtual processor for the host's messages.
        pub target_vp: U32,
        /// From 5.0 on the SINT for the host's messages; before, this word and the next are the interrupt page's
        /// address.
        pub sint: u8,
        /// Trust level of the guest's client.
        pub vtl: u8,
        /// Always 0 from 5.0 on.
        pub reserved: U16,
        /// From 6.0 on the [`FeatureFlags`](super::FeatureFlags) that the guest wants.
        pub features: U32,
        /// Address of the host's monitor page, or 0.
        pub parent_to_child_monitor_page: U64,
        /// Address of the guest's monitor page, or 0.
        pub child_to_parent_monitor_page: U64,
    }
}

body! {
    /// INITIATE_CONTACT with [`CLIENT_ID`](super::FeatureFlags::CLIENT_ID).
    InitiateContact2, 56, {
        /// What every INITIATE_CONTACT has.
        pub contact: InitiateContact,
        /// Who the guest's client is.
        pub client_id: Guid,
    }
}

body! {
    /// VERSION_RESPONSE up to 5.3, and every refusal.
    VersionResponse, 16, host: VERSION_RESPONSE, {
        /// 1 when the version is served.
        pub supported: u8,
        /// [`CONNECTION_SUCCESSFUL`](super::CONNECTION_SUCCESSFUL), or why there is no connection.
        pub connection_state: u8,
        /// Always 0.
        pub reserved: U16,
        /// From 5.0 on the connection id to post messages to; before, the version.
        pub connection_id_or_version: U32,
    }
}

body! {
    /// VERSION_RESPONSE from 6.0 on.
    VersionResponse2, 20, host: VERSION_RESPONSE, {
        /// What every VERSION_RESPONSE has.
        pub response: VersionResponse,
        /// The [`FeatureFlags`](super::FeatureFlags) that the connection uses.
        pub features: U32,
    }
}

body! {
    /// OPEN_RESERVED_CHANNEL.
    OpenReservedChannel, 28, {
        /// The channel's id.
        pub channel: U32,
        /// Virtual processor for the answer.
        pub target_vp: U32,
        /// SINT for the answer.
        pub target_sint: U32,
        /// The GPADL of both rings.
        pub ring_gpadl: U32,
        /// Page where the guest's incoming ring starts.
        pub downstream_page_offset: U32,
    }
}

body! {
    /// CLOSE_RESERVED_CHANNEL.
    CloseReservedChannel, 20, {
        /// The channel's id.
        pub channel: U32,
        /// Virtual processor for the answer.
        pub target_vp: U32,
        /// SINT for the answer.
        pub target_sint: U32,
    }
}

body! {
    /// CLOSE_RESERVED_RESPONSE.
    CloseReservedResponse, 12, host: CLOSE_RESERVED_RESPONSE, {
        /// The channel's id.
        pub channel: U32,
    }
}

body! {
    /// TL_CONNECT_REQUEST; a silo's GUID may follow from 5.2 on.
    TlConnectRequest, 40, {
        /// The guest's end.
        pub endpoint: Guid,
        /// The host's end.
        pub service: Guid,
    }
}

body! {
    /// TL_CONNECT_RESULT.
    TlConnectResult, 44, host: TL_CONNECT_RESULT, {
        /// As in the request.
        pub endpoint: Guid,
        /// As in the request.
        pub service: Guid,
        /// A [`Status`](super::Status).
        pub status: U32,
    }
}

body! {
    /// MODIFY_CHANNEL.
    ModifyChannel, 16, {
        /// The channel's id.
        pub channel: U32,
        /// Virtual processor to interrupt from now on.
        pub target_vp: U32,
    }
}

body! {
    /// MODIFY_CHANNEL_RESPONSE.
    ModifyChannelResponse, 16, host: MODIFY_CHANNEL_RESPONSE, {
        /// The channel's id.
        pub channel: U32,
        /// A [`Status`](super::Status).
        pub status: U32,
    }
}

body! {
    /// MODIFY_CONNECTION.
    ModifyConnection, 24, {
        /// Address of the host's monitor page, or 0.
        pub parent_to_child_monitor_page: U64,
        /// Address of the guest's monitor page, or 0.
        pub child_to_parent_monitor_page: U64,
    }
}

body! {
    /// MODIFY_CONNECTION_RESPONSE.
    ModifyConnectionResponse, 9, host: MODIFY_CONNECTION_RESPONSE, {
        /// [`CONNECTION_SUCCESSFUL`](super::CONNECTION_SUCCESSFUL), or why nothing changed.
        pub connection_state: u8,
    }
}
