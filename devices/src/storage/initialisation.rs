//! What a guest says before it uses a controller: a state machine, on the controller's first channel.
//!
//! ```text
//!   BEGIN ──▶ QUERY_PROTOCOL_VERSION ──▶ QUERY_PROPERTIES ──▶ END ──▶ ready
//!                 ▲          │                                   │
//!                 └──────────┘ not spoken: name another          └ CREATE_SUB_CHANNELS, once, here or when ready
//! ```
//!
//! Anything in another order is answered "not in this state" and changes nothing. Windows and Linux give up on such an
//! answer, so the order is theirs.

use zerocopy::{FromBytes, FromZeros, IntoBytes};

use super::protocol::{
    CreateSubChannels, PROPERTY_MULTI_CHANNEL, Properties, QueryVersion, Version, VstorPacket, operation,
    status,
};

/// Most bytes of one command's data, as the guest is told: what Linux makes one request of by itself, and what one
/// `preadv` takes however its pages lie.
pub const MAX_TRANSFER: u32 = 1 << 20;

/// What comes next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Begin,
    Version,
    Properties,
    End,
    Ready,
}

/// One guest driver's way through it.
#[derive(Debug)]
pub(super) struct Initialisation {
    stage: Stage,
    version: Option<Version>,
    /// Most sub-channels that it is told of.
    most: u16,
    sub_channels_created: bool,
}

/// What an operation comes to, besides its completion.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Effect {
    None,
    /// From now on packets are of this version.
    Speak(Version),
    /// So many sub-channels are to be offered.
    SubChannels(u16),
}

impl Initialisation {
    pub fn new(most: u16) -> Self {
        Initialisation { stage: Stage::Begin, version: None, most, sub_channels_created: false }
    }

    /// Whether commands are welcome.
    pub fn is_ready(&self) -> bool {
        self.stage == Stage::Ready
    }

    /// Takes any operation but commands and resets, makes the packet its completion's body and names its status.
    pub fn take(&mut self, packet: &mut VstorPacket) -> (u32, Effect) {
        let taken = match packet.header.operation.get() {
            operation::BEGIN_INITIALIZATION => self.pass(Stage::Begin, Stage::Version),
            operation::QUERY_PROTOCOL_VERSION => self.query_version(packet),
            operation::QUERY_PROPERTIES => self.query_properties(packet),
            operation::END_INITIALIZATION => self.pass(Stage::End, Stage::Ready),
            operation::CREATE_SUB_CHANNELS => self.create_sub_channels(packet),
            // FCHBA_DATA among them: the controller is no Fibre Channel adapter.
            _ => Err(status::INVALID_DEVICE_REQUEST),
        };
        match taken {
            Ok(effect) => (status::SUCCESS, effect),
            Err(status) => (status, Effect::None),
        }
    }

    fn pass(&mut self, at: Stage, next: Stage) -> Result<Effect, u32> {
        self.must_be(at)?;
        self.stage = next;
        Ok(Effect::None)
    }

    fn must_be(&self, at: Stage) -> Result<(), u32> {
        if self.stage == at { Ok(()) } else { Err(status::INVALID_DEVICE_STATE) }
    }

    fn query_version(&mut self, packet: &VstorPacket) -> Result<Effect, u32> {
        self.must_be(Stage::Version)?;
        let body: QueryVersion = body(packet);
        let version = Version(body.version.get());
        if !Version::ALL.contains(&version) {
            return Err(status::REVISION_MISMATCH);
        }
        self.version = Some(version);
        self.stage = Stage::Properties;
        Ok(Effect::Speak(version))
    }

    fn query_properties(&mut self, packet: &mut VstorPacket) -> Result<Effect, u32> {
        self.pass(Stage::Properties, Stage::End)?;
        let most = self.most_sub_channels();
        let properties = Properties {
            max_sub_channels: most.into(),
            flags: if most > 0 { PROPERTY_MULTI_CHANNEL } else { 0 }.into(),
            max_transfer_bytes: MAX_TRANSFER.into(),
            ..Properties::new_zeroed()
        };
        packet.srb = FromZeros::new_zeroed();
        // Cannot fail: every body is smaller than an SRB.
        let _ = properties.write_to_prefix(packet.srb.as_mut_bytes());
        Ok(Effect::None)
    }

    fn create_sub_channels(&mut self, packet: &VstorPacket) -> Result<Effect, u32> {
        if !matches!(self.stage, Stage::End | Stage::Ready) || self.sub_channels_created {
            return Err(status::INVALID_DEVICE_STATE);
        }
        let CreateSubChannels { count } = body(packet);
        if count.get() > self.most_sub_channels() {
            return Err(status::INVALID_PARAMETER);
        }
        self.sub_channels_created = true;
        Ok(Effect::SubChannels(count.get()))
    }

    fn most_sub_channels(&self) -> u16 {
        if self.version.is_some_and(Version::has_sub_channels) { self.most } else { 0 }
    }
}

/// The body of another operation than EXECUTE_SRB: what of it was not sent is 0.
fn body<T: FromBytes + FromZeros>(packet: &VstorPacket) -> T {
    T::read_from_prefix(packet.srb.as_bytes()).map_or_else(|_| T::new_zeroed(), |(body, _)| body)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn packet(operation: u32, word: u16) -> VstorPacket {
        let mut packet = VstorPacket::new_zeroed();
        packet.header.operation = operation.into();
        packet.srb.short.length = word.into();
        packet
    }

    /// Every operation, with the number that it is given.
    fn operations() -> impl Iterator<Item = (u32, u16)> {
        (0..16)
            .filter(|&op| op < operation::EXECUTE_SRB || op > operation::RESET_BUS)
            .map(|op| (op, if op == operation::QUERY_PROTOCOL_VERSION { Version::V6_2.0 } else { 0 }))
    }

    fn at(stage: Stage) -> Initialisation {
        Initialisation { stage, version: Some(Version::V6_2), most: 4, sub_channels_created: false }
    }

    #[test]
    fn every_operation_in_every_stage() {
        use Stage::*;
        for stage in [Begin, Version, Properties, End, Ready] {
            for (operation, word) in operations() {
                let mut state = at(stage);
                let (status, _) = state.take(&mut packet(operation, word));
                let (expected, next) = match (operation, stage) {
                    (operation::BEGIN_INITIALIZATION, Begin) => (status::SUCCESS, Version),
                    (operation::QUERY_PROTOCOL_VERSION, Version) => (status::SUCCESS, Properties),
                    (operation::QUERY_PROPERTIES, Properties) => (status::SUCCESS, End),
                    (operation::END_INITIALIZATION, End) => (status::SUCCESS, Ready),
                    (operation::CREATE_SUB_CHANNELS, End | Ready) => (status::SUCCESS, stage),
                    (7..=10 | operation::CREATE_SUB_CHANNELS, _) => (status::INVALID_DEVICE_STATE, stage),
                    _ => (status::INVALID_DEVICE_REQUEST, stage),
                };
                assert_eq!((status, state.stage), (expected, next), "operation {operation} at {stage:?}");
            }
        }
    }

    #[test]
    fn a_version_that_is_not_spoken_may_be_followed_by_one_that_is() {
        for (version, size) in [(0x0200, 48), (0x0402, 48), (0x0501, 64), (0x0600, 64), (0x0602, 64)] {
            let mut state = at(Stage::Version);
            for unknown in [0, 0x0100, 0x0401, 0x0500, 0x0601, 0x0603, 0x0700, u16::MAX] {
                let query = &mut packet(operation::QUERY_PROTOCOL_VERSION, unknown);
                assert_eq!(state.take(query), (status::REVISION_MISMATCH, Effect::None));
            }
            let query = &mut packet(operation::QUERY_PROTOCOL_VERSION, version);
            assert_eq!(state.take(query), (status::SUCCESS, Effect::Speak(Version(version))));
            assert_eq!(Version(version).packet_size(), size);
        }
    }

    #[test]
    fn properties_say_what_the_controller_can_do() {
        for (version, most, flags) in [(Version::V6_2, 4, 1), (Version::V5_1, 4, 1), (Version::V4_2, 0, 0)] {
            let mut state = Initialisation { version: Some(version), ..at(Stage::Properties) };
            let mut query = packet(operation::QUERY_PROPERTIES, 0x5a5a);
            assert_eq!(state.take(&mut query).0, status::SUCCESS);
            let Properties { max_sub_channels, flags: found, max_transfer_bytes, .. } = body(&query);
            assert_eq!(
                (max_sub_channels.get(), found.get(), max_transfer_bytes.get()),
                (most, flags, 1 << 20)
            );
        }
    }

    #[test]
    fn sub_channels_are_created_once_and_no_more_than_there_may_be() {
        for stage in [Stage::End, Stage::Ready] {
            let mut state = at(stage);
            let create = |count| packet(operation::CREATE_SUB_CHANNELS, count);
            assert_eq!(state.take(&mut create(5)), (status::INVALID_PARAMETER, Effect::None));
            assert_eq!(state.take(&mut create(4)), (status::SUCCESS, Effect::SubChannels(4)));
            assert_eq!(state.take(&mut create(1)), (status::INVALID_DEVICE_STATE, Effect::None));
            let mut old = Initialisation { version: Some(Version::V4_2), ..at(stage) };
            assert_eq!(old.take(&mut create(1)), (status::INVALID_PARAMETER, Effect::None));
        }
    }
}
