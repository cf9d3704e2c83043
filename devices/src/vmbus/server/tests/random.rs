//! Random sequences of guest messages and host events, from guests that mostly make sense.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;
use proptest::sample::select;

use super::limits::*;
use super::*;

/// One thing that happens. Small numbers, so that channels and GPADLs meet.
#[derive(Clone, Debug)]
enum Step {
    Contact {
        version: Version,
        vp: u32,
        sint: u8,
        features: u32,
    },
    Open {
        channel: u32,
        gpadl: u32,
        offset: u32,
        vp: u32,
        flag: u16,
    },
    Reserved {
        message_type: u32,
        channel: u32,
        vp: u32,
        sint: u32,
        gpadl: u32,
    },
    Header {
        channel: u32,
        gpadl: u32,
        pages: u32,
    },
    Body {
        gpadl: u32,
        pages: u32,
    },
    Teardown {
        channel: u32,
        gpadl: u32,
    },
    Named {
        message_type: u32,
        channel: u32,
    },
    Modify {
        channel: u32,
        vp: u32,
    },
    Bare {
        message_type: u32,
    },
    Bytes(Vec<u8>),
    Offer {
        instance: u8,
        sub_channel: u16,
    },
    Rescind(usize),
    /// The bus answers one of the actions that it owes an answer to.
    Answer {
        which: usize,
        succeed: bool,
    },
    Reset,
}

fn step() -> impl Strategy<Value = Step> {
    let channel = 0..5u32;
    let gpadl = 0..5u32;
    let vp = prop_oneof![4 => 0..VPS, 1 => Just(VP_NONE), 1 => Just(VPS)];
    let sint = prop_oneof![4 => Just(2u8), 1 => any::<u8>()];
    let versions = select(vec![
        Version::V2_4,
        Version::V3_0,
        Version::V4_0,
        Version::V4_1,
        Version::V5_3,
        Version::V6_0,
        Version(0x0007_0000),
    ]);
    prop_oneof![
        1 => (versions, vp.clone(), sint.clone(), any::<u32>())
            .prop_map(|(version, vp, sint, features)| Step::Contact { version, vp, sint, features }),
        8 => (channel.clone(), gpadl.clone(), 0..6u32, vp.clone(), 0..5u16)
            .prop_map(|(channel, gpadl, offset, vp, flag)| Step::Open { channel, gpadl, offset, vp, flag }),
        2 => (18..20u32, channel.clone(), vp.clone(), sint, gpadl.clone()).prop_map(
            |(message_type, channel, vp, sint, gpadl)| {
                Step::Reserved { message_type, channel, vp, sint: sint.into(), gpadl }
            }
        ),
        8 => (channel.clone(), gpadl.clone(), select(vec![1, 4, 6, 26, 27, 60, 9000]))
            .prop_map(|(channel, gpadl, pages)| Step::Header { channel, gpadl, pages }),
        4 => (gpadl.clone(), 0..29u32).prop_map(|(gpadl, pages)| Step::Body { gpadl, pages }),
        6 => (channel.clone(), gpadl).prop_map(|(channel, gpadl)| Step::Teardown { channel, gpadl }),
        6 => (select(vec![7u32, 7, 13]), channel.clone())
            .prop_map(|(message_type, channel)| Step::Named { message_type, channel }),
        2 => (channel, vp).prop_map(|(channel, vp)| Step::Modify { channel, vp }),
        4 => select(vec![3u32, 3, 3, 16, 27, 29]).prop_map(|message_type| Step::Bare { message_type }),
        1 => prop::collection::vec(any::<u8>(), 0..240).prop_map(Step::Bytes),
        3 => (0..3u8, 0..3u16).prop_map(|(instance, sub_channel)| Step::Offer { instance, sub_channel }),
        1 => (0..6usize).prop_map(Step::Rescind),
        12 => (any::<usize>(), prop::bool::weighted(0.8))
            .prop_map(|(which, succeed)| Step::Answer { which, succeed }),
        1 => Just(Step::Reset),
    ]
}

/// What the bus has yet to answer.
#[derive(Clone, Copy, Debug)]
enum Owed {
    Opened(OfferId),
    Closed(OfferId),
    Unmapped(OfferId, GpadlId),
}

/// A bus that answers late and in any order, and that checks what it is asked for.
#[derive(Default)]
struct Model {
    owed: Vec<Owed>,
    offers: Vec<OfferId>,
    /// Channels that are open or opening for the bus, and their rings.
    open: BTreeMap<OfferId, GpadlId>,
    mapped: Vec<(OfferId, GpadlId)>,
    /// Opens that must have one answer, and how many they had, by open id.
    answers: BTreeMap<u32, u32>,
    open_ids: u32,
    /// GPADL headers, by channel and name, without an answer.
    headers: BTreeSet<(u32, u32)>,
    /// Names of GPADLs whose teardown is without an answer.
    teardowns: BTreeSet<u32>,
}

impl Model {
    fn drain(&mut self, server: &mut Server) {
        while let Some(action) = server.next_action() {
            self.take(server, action);
        }
    }

    fn take(&mut self, server: &Server, action: Action) {
        match action {
            Action::Send(message) => self.take_message(&message),
            Action::Open(offer, request) => {
                assert!(self.open.insert(offer, request.ring_gpadl).is_none(), "open twice");
                assert!(self.mapped.contains(&(offer, request.ring_gpadl)));
                let pages = request.ring.whole_pages().unwrap().len();
                let outgoing = request.downstream_page_offset as usize;
                assert!(outgoing >= 2 && outgoing + 2 <= pages);
                assert!(request.event_flag < 2048 && (1..2048).contains(&request.channel.0));
                assert!(request.target_vp.is_none_or(|vp| vp < VPS));
                self.owed.push(Owed::Opened(offer));
            }
            Action::Close(offer) => {
                assert!(self.open.contains_key(&offer), "closed what was not open");
                self.owed.push(Owed::Closed(offer));
            }
            Action::Retarget(offer, vp) => {
                assert!(self.open.contains_key(&offer) && vp.is_some_and(|vp| vp < VPS));
            }
            Action::Map(offer, gpadl, _) => {
                assert!(!self.mapped.contains(&(offer, gpadl)), "mapped twice");
                self.mapped.push((offer, gpadl));
            }
            Action::Unmap(offer, gpadl) => {
                assert!(self.mapped.contains(&(offer, gpadl)), "unmapped what was not mapped");
                assert!(self.open.get(&offer) != Some(&gpadl), "unmapped a ring in use");
                self.owed.push(Owed::Unmapped(offer, gpadl));
            }
            // Messages are taken as soon as they are there.
            Action::DropMessages => {}
            Action::Gone(offer) => {
                assert!(!self.open.contains_key(&offer), "gone while open");
                assert!(self.mapped.iter().all(|&(other, _)| other != offer), "gone while mapped");
                self.offers.retain(|&other| other != offer);
            }
        }
        assert!(server.gpadls.units() <= MAX_GPADL_UNITS);
    }

    fn take_message(&mut self, message: &HostMessage) {
        assert!(message.vp < VPS && message.sint < 16 && message.payload().len() <= 240);
        let (header, body) = Header::read_from_prefix(message.payload()).unwrap();
        match header.message_type.get() {
            message_type::OPEN_CHANNEL_RESULT => {
                let result = OpenChannelResult::read_from_bytes(body).unwrap();
                if let Some(answers) = self.answers.get_mut(&result.open_id.get()) {
                    *answers += 1;
                }
            }
            message_type::GPADL_CREATED => {
                let created = GpadlCreated::read_from_bytes(body).unwrap();
                self.headers.remove(&(created.channel.get(), created.gpadl.get()));
            }
            message_type::GPADL_TORNDOWN => {
                let gpadl = GpadlTorndown::read_from_bytes(body).unwrap().gpadl.get();
                self.teardowns.remove(&gpadl);
                // Torn down before it was complete: nobody waits for it any more.
                self.headers.retain(|&(_, other)| other != gpadl);
            }
            _ => {}
        }
    }

    fn answer(&mut self, server: &mut Server, which: usize, succeed: bool) {
        if self.owed.is_empty() {
            return;
        }
        match self.owed.swap_remove(which % self.owed.len()) {
            Owed::Opened(offer) if succeed => server.opened(offer, Ok(())),
            Owed::Opened(offer) => {
                self.open.remove(&offer);
                server.opened(offer, Err(Status::UNSUCCESSFUL));
            }
            Owed::Closed(offer) => {
                self.open.remove(&offer);
                server.closed(offer);
            }
            Owed::Unmapped(offer, gpadl) => {
                self.mapped.retain(|&mapped| mapped != (offer, gpadl));
                server.unmapped(offer, gpadl);
            }
        }
        self.drain(server);
    }

    fn settle(&mut self, server: &mut Server) {
        self.drain(server);
        while !self.owed.is_empty() {
            self.answer(server, 0, true);
        }
    }

    /// An open whose answer is owed whatever follows, unless the guest starts over or the channel is rescinded.
    fn note_open(&mut self, server: &Server, channel: u32) -> u32 {
        self.open_ids += 1;
        let state =
            server.channels().map(|(info, _)| info).find(|info| info.channel == Some(ChannelId(channel)));
        let connected = heard(server);
        let owed = match state.map(|info| info.state) {
            Some(ChannelState::Closed | ChannelState::Closing | ChannelState::Released) => connected,
            None => connected,
            _ => false,
        };
        if owed {
            self.answers.insert(self.open_ids, 0);
        }
        self.open_ids
    }

    fn step(&mut self, server: &mut Server, step: Step) {
        let starts_over = match &step {
            Step::Contact { .. } | Step::Reset | Step::Bytes(_) => true,
            Step::Bare { message_type } => *message_type == message_type::UNLOAD,
            _ => false,
        };
        if starts_over {
            self.answers.clear();
            self.headers.clear();
            self.teardowns.clear();
        }
        match step {
            Step::Header { channel, gpadl, .. } if heard(server) => {
                self.headers.insert((channel, gpadl));
            }
            Step::Teardown { gpadl, .. } if heard(server) => {
                self.teardowns.insert(gpadl);
            }
            _ => {}
        }
        match step {
            Step::Offer { instance, sub_channel } => {
                self.offers.extend(server.offer(offer(instance, sub_channel)).ok());
            }
            Step::Rescind(which) => {
                if let Some(&offer) = self.offers.get(which) {
                    server.rescind(offer);
                }
            }
            Step::Answer { which, succeed } => self.answer(server, which, succeed),
            Step::Reset => server.reset(),
            Step::Open { channel, gpadl, offset, vp, flag } => {
                let open_id = self.note_open(server, channel);
                let open = OpenChannel {
                    target_vp: vp.into(),
                    downstream_page_offset: offset.into(),
                    ..open(channel, open_id, gpadl)
                };
                let connection_id = (0x2000 + u32::from(flag)).into();
                let open2 = OpenChannel2 { open, connection_id, event_flag: flag.into(), flags: 0.into() };
                server.handle(4, &message(message_type::OPEN_CHANNEL, &open2));
            }
            step => server.handle(4, &bytes(step)),
        }
        self.drain(server);
    }
}

/// Whether the guest's messages have any effect.
fn heard(server: &Server) -> bool {
    server.connection().is_some() && !server.outbox.is_paused()
}

/// The message of a step that is one.
fn bytes(step: Step) -> Vec<u8> {
    match step {
        Step::Contact { version, vp, sint, features } => {
            let contact =
                InitiateContact { target_vp: vp.into(), sint, features: features.into(), ..contact(version) };
            message(message_type::INITIATE_CONTACT, &contact)
        }
        Step::Reserved { message_type: message_type::OPEN_RESERVED_CHANNEL, channel, vp, sint, gpadl } => {
            let words = [channel, vp, sint, gpadl, 2].map(u32::to_le_bytes).concat();
            message(message_type::OPEN_RESERVED_CHANNEL, &*words)
        }
        Step::Reserved { message_type, channel, vp, sint, .. } => {
            message(message_type, &*[channel, vp, sint].map(u32::to_le_bytes).concat())
        }
        Step::Header { channel, gpadl, pages } => gpadl_header(channel, gpadl, pages),
        Step::Body { gpadl, pages } => gpadl_body(gpadl, pages),
        Step::Teardown { channel, gpadl } => teardown(channel, gpadl),
        Step::Named { message_type, channel } => named(message_type, channel),
        Step::Modify { channel, vp } => modify(channel, vp),
        Step::Bare { message_type } => bare(message_type),
        Step::Bytes(bytes) => bytes,
        Step::Open { .. } | Step::Offer { .. } | Step::Rescind(_) | Step::Answer { .. } | Step::Reset => {
            Vec::new()
        }
    }
}

/// Nothing is left in between once the bus has answered everything.
fn check_settled(server: &Server, model: &Model) {
    assert!(!server.connection.is_resetting(), "a reset that does not end");
    for (info, _) in server.channels() {
        let moving = [ChannelState::Opening, ChannelState::Closing, ChannelState::Reopening];
        assert!(!moving.contains(&info.state), "{info:?}");
    }
    if !server.outbox.is_paused() {
        assert!(model.answers.values().all(|&answers| answers == 1), "{:?}", model.answers);
        let partial = |&(_, gpadl): &(u32, u32)| server.gpadls.is_partial(GpadlId(gpadl));
        assert!(model.headers.iter().all(partial), "{:?}", model.headers);
        let ring = |gpadl: &u32| model.open.values().any(|ring| ring.0 == *gpadl);
        assert!(model.teardowns.iter().all(ring), "{:?}", model.teardowns);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { max_shrink_iters: 20_000, ..ProptestConfig::default() })]

    #[test]
    fn whatever_happens_everybody_is_answered_and_a_guest_can_start_over(
        steps in prop::collection::vec(step(), 0..200),
    ) {
        let mut server = Server::new(VPS);
        let mut model = Model::default();
        for instance in 0..2 {
            model.step(&mut server, Step::Offer { instance, sub_channel: 0 });
        }
        let first = Step::Contact { version: Version::V5_3, vp: 0, sint: 2, features: 0 };
        model.step(&mut server, first);
        model.step(&mut server, Step::Bare { message_type: message_type::REQUEST_OFFERS });
        for step in steps {
            model.step(&mut server, step);
        }
        model.settle(&mut server);
        check_settled(&server, &model);

        // An honest guest connects, and finds nothing of what was before.
        model.step(&mut server, Step::Contact { version: Version::V5_3, vp: 0, sint: 2, features: 0 });
        model.settle(&mut server);
        prop_assert_eq!(server.connection().map(|connection| connection.version), Some(Version::V5_3));
        prop_assert!(server.gpadls.is_empty() && server.gpadls.units() == 0);
        prop_assert!(model.open.is_empty() && model.mapped.is_empty());
        prop_assert_eq!(server.channels().count(), model.offers.len());
        model.step(&mut server, Step::Bare { message_type: message_type::REQUEST_OFFERS });
        for (info, _) in server.channels() {
            prop_assert_eq!(info.state, ChannelState::Closed);
        }
        model.step(&mut server, Step::Bare { message_type: message_type::UNLOAD });
        model.settle(&mut server);
        prop_assert!(server.is_idle());
    }
}
