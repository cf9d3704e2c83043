//! The guest's side of the control protocol and of a channel.

use std::sync::Arc;
use std::time::{Duration, Instant};

use vm_memory::{Bytes, GuestAddress};
use zerocopy::{FromBytes, FromZeros, Immutable, IntoBytes, KnownLayout};

use super::channel::TestChannel;
use super::synic::{TestMessage, TestSynic};
use crate::guid::Guid;
use crate::hvdef::{HvStatus, MESSAGE_TYPE_VMBUS};
use crate::mem::{GuestRam, PAGE_SIZE, Pages};
use crate::vmbus::bus::Bus;
use crate::vmbus::protocol::{
    ChannelName, GpadlCreated, GpadlTeardown, GpadlTorndown, Header, InitiateContact, OfferChannel,
    OpenChannel, OpenChannelResult, Version, VersionResponse, message_type,
};
use crate::vmbus::ring::{Incoming, Outgoing, RingPages};
use crate::vmbus::server::MESSAGE_PORT;
use crate::vmbus::synic::Synic;

/// How long anything of the host's may take before a test fails: far above what it takes.
pub(super) const PATIENCE: Duration = Duration::from_secs(20);
/// RAM of the guest, pages.
const RAM_PAGES: usize = 16 << 10;
/// Units of 8 bytes in a GPADL_HEADER and in a GPADL_BODY.
const HEADER_UNITS: usize = 27;
const BODY_UNITS: usize = 28;

/// An offer that the guest received.
#[derive(Clone, Copy, Debug)]
pub struct OfferSeen {
    /// The whole message.
    pub offer: OfferChannel,
}

impl OfferSeen {
    /// The channel's id.
    #[must_use]
    pub fn channel(&self) -> u32 {
        self.offer.channel.get()
    }
}

/// A guest with the bus in front of it.
#[derive(Debug)]
pub struct TestGuest {
    /// The bus; add devices here.
    pub bus: Bus,
    /// Messages and interrupts as they reach the guest.
    pub synic: Arc<TestSynic>,
    ram: GuestRam,
    next_page: u64,
    next_gpadl: u32,
    /// Messages that came while another was waited for.
    aside: Vec<TestMessage>,
    offered: Option<OfferSeen>,
    /// What the guest's drivers tell the devices that they open.
    pub user_data: [u8; 120],
}

impl Default for TestGuest {
    fn default() -> Self {
        Self::new(4)
    }
}

impl TestGuest {
    /// A guest with so many virtual processors, 64 MiB of RAM and a bus without devices.
    #[must_use]
    pub fn new(vp_count: u32) -> Self {
        let ram =
            GuestRam::from_ranges(&[(GuestAddress(0), RAM_PAGES * PAGE_SIZE)]).expect("memory for a guest");
        let synic = Arc::new(TestSynic::new(vp_count));
        let bus = Bus::new(ram.clone(), Arc::clone(&synic) as Arc<dyn Synic>).expect("a bus");
        TestGuest {
            bus,
            synic,
            ram,
            next_page: 1,
            next_gpadl: 0xE1E10,
            aside: Vec::new(),
            offered: None,
            user_data: [0; 120],
        }
    }

    /// The guest's RAM.
    #[must_use]
    pub fn ram(&self) -> &GuestRam {
        &self.ram
    }

    /// Takes pages of RAM that nothing else uses, and zeroes them.
    pub fn allocate(&mut self, pages: usize) -> Vec<u64> {
        let first = self.next_page;
        self.next_page += pages as u64;
        assert!(self.next_page as usize <= RAM_PAGES, "the test guest is out of memory");
        let pfns: Vec<u64> = (first..self.next_page).collect();
        for &pfn in &pfns {
            self.zero(pfn);
        }
        pfns
    }

    fn zero(&self, pfn: u64) {
        self.ram.write_slice(&[0; PAGE_SIZE], GuestAddress(pfn * PAGE_SIZE as u64)).expect("RAM");
    }

    /// Posts a message as it is and lets the bus work.
    pub fn post(&mut self, connection_id: u32, message: &[u8]) -> HvStatus {
        let status = self.bus.port().post(connection_id, MESSAGE_TYPE_VMBUS, message);
        self.bus.process();
        status
    }

    /// Posts a control message on the port of old versions.
    pub fn send(&mut self, message_type: u32, body: &[u8]) {
        self.send_to(MESSAGE_PORT, message_type, body);
    }

    /// Posts a control message on either port.
    pub fn send_to(&mut self, port: u32, message_type: u32, body: &[u8]) {
        let header = Header { message_type: message_type.into(), padding: 0.into() };
        let message = [header.as_bytes(), body].concat();
        assert_eq!(self.post(port, &message), HvStatus::Success);
    }

    /// The next message of any type, if there is one now.
    pub fn try_receive(&mut self) -> Option<TestMessage> {
        self.bus.process();
        if self.aside.is_empty() { self.synic.take_message() } else { Some(self.aside.remove(0)) }
    }

    /// Waits for the next message of a type and reads its body; others are kept for later.
    pub fn receive<T: FromBytes + KnownLayout + Immutable>(&mut self, message_type: u32) -> T {
        self.find(|body_type| body_type == message_type).1
    }

    fn find<T: FromBytes + KnownLayout + Immutable>(&mut self, wanted: impl Fn(u32) -> bool) -> (u32, T) {
        let deadline = Instant::now() + PATIENCE;
        let mut aside = std::mem::take(&mut self.aside);
        let mut looked_at = 0;
        loop {
            while looked_at < aside.len() {
                let (header, body) = Header::read_from_prefix(&aside[looked_at].payload).expect("a header");
                let message_type = header.message_type.get();
                if wanted(message_type) {
                    let body = T::read_from_bytes(body).unwrap_or_else(|_| {
                        panic!(
                            "message {message_type} has {} bytes of body",
                            aside[looked_at].payload.len() - 8
                        )
                    });
                    aside.remove(looked_at);
                    self.aside = aside;
                    return (message_type, body);
                }
                looked_at += 1;
            }
            self.bus.process();
            match self.synic.take_message() {
                Some(message) => aside.push(message),
                None => {
                    assert!(Instant::now() < deadline, "the host does not answer; it sent {aside:x?}");
                    std::thread::sleep(Duration::from_millis(1));
                }
            }
        }
    }

    /// Makes contact; panics when the host refuses the version.
    pub fn connect(&mut self, version: Version) {
        let mut contact = InitiateContact::new_zeroed();
        contact.version = version.0.into();
        if version >= Version::V5_0 {
            contact.sint = crate::hvdef::VMBUS_SINT;
        }
        self.send(message_type::INITIATE_CONTACT, contact.as_bytes());
        let response: VersionResponse = self.receive(message_type::VERSION_RESPONSE);
        assert_eq!(response.supported, 1, "version {version}");
    }

    /// Asks for the offers and takes them all.
    pub fn offers(&mut self) -> Vec<OfferSeen> {
        self.send(message_type::REQUEST_OFFERS, &[]);
        let mut offers = Vec::new();
        loop {
            let wanted = |t| t == message_type::OFFER_CHANNEL || t == message_type::ALL_OFFERS_DELIVERED;
            let deadline = Instant::now() + PATIENCE;
            let message = loop {
                if let Some(message) = self.try_receive() {
                    break message;
                }
                assert!(Instant::now() < deadline, "the offers do not end");
            };
            let (header, body) = Header::read_from_prefix(&message.payload).expect("a header");
            assert!(wanted(header.message_type.get()), "{message:x?}");
            match OfferChannel::read_from_bytes(body) {
                Ok(offer) => offers.push(OfferSeen { offer }),
                Err(_) => return offers,
            }
        }
    }

    /// Connects with the newest version and returns the offer of an interface.
    pub fn connect_to(&mut self, interface: Guid) -> OfferSeen {
        self.connect(Version::V5_3);
        let offers = self.offers();
        let offer =
            *offers.iter().find(|seen| seen.offer.interface == interface).expect("the device is offered");
        self.offered = Some(offer);
        offer
    }

    /// The offer that [`TestGuest::connect_to`] returned.
    #[must_use]
    pub fn offered(&self) -> &OfferSeen {
        self.offered.as_ref().expect("connect_to was called")
    }

    /// Waits for an offer that comes by itself, of a device that was added.
    pub fn next_offer(&mut self) -> OfferSeen {
        OfferSeen { offer: self.receive(message_type::OFFER_CHANNEL) }
    }

    /// Lends whole pages to the host and waits for its answer; the GPADL's id.
    pub fn lend(&mut self, channel: u32, pfns: &[u64]) -> u32 {
        let gpadl = self.next_gpadl;
        self.next_gpadl += 1;
        self.lend_as(channel, gpadl, pfns);
        gpadl
    }

    /// Lends whole pages under a name of the guest's choice and waits for the host's answer.
    pub fn lend_as(&mut self, channel: u32, gpadl: u32, pfns: &[u64]) {
        let byte_count = (pfns.len() * PAGE_SIZE) as u64;
        // A range header is one unit: byte count in its low half, byte offset in its high half.
        let units: Vec<u64> = std::iter::once(byte_count).chain(pfns.iter().copied()).collect();
        let (head, rest) = units.split_at(units.len().min(HEADER_UNITS));
        let mut body = [channel.to_le_bytes(), gpadl.to_le_bytes()].concat();
        body.extend_from_slice(&((units.len() * 8) as u16).to_le_bytes());
        body.extend_from_slice(&1u16.to_le_bytes());
        body.extend(head.iter().flat_map(|unit| unit.to_le_bytes()));
        self.send(message_type::GPADL_HEADER, &body);
        for part in rest.chunks(BODY_UNITS) {
            let mut body = [0u32.to_le_bytes(), gpadl.to_le_bytes()].concat();
            body.extend(part.iter().flat_map(|unit| unit.to_le_bytes()));
            self.send(message_type::GPADL_BODY, &body);
        }
        let created: GpadlCreated = self.receive(message_type::GPADL_CREATED);
        assert_eq!((created.channel.get(), created.gpadl.get()), (channel, gpadl));
        assert_eq!(created.status.get(), 0, "GPADL_CREATED");
    }

    /// Opens a channel with rings of so many pages each, control pages included.
    pub fn open(&mut self, offer: &OfferSeen, outgoing_pages: usize, incoming_pages: usize) -> TestChannel {
        let pfns = self.allocate(outgoing_pages + incoming_pages);
        self.open_on(offer, &pfns, outgoing_pages).expect("the host opens the channel")
    }

    /// Opens a channel on these pages; `Err` is the status of a refusal.
    ///
    /// # Errors
    /// When the host refuses.
    pub fn open_on(
        &mut self,
        offer: &OfferSeen,
        pfns: &[u64],
        outgoing_pages: usize,
    ) -> Result<TestChannel, u32> {
        let ring_gpadl = self.lend(offer.channel(), pfns);
        self.open_rings(offer, ring_gpadl, pfns, outgoing_pages)
    }

    /// Opens a channel on the pages of a GPADL; `Err` is the status of a refusal.
    ///
    /// # Errors
    /// When the host refuses.
    pub fn open_rings(
        &mut self,
        offer: &OfferSeen,
        ring_gpadl: u32,
        pfns: &[u64],
        outgoing_pages: usize,
    ) -> Result<TestChannel, u32> {
        let (to_host, from_host) = pfns.split_at(outgoing_pages);
        // The pages may have been rings before.
        self.zero(to_host[0]);
        self.zero(from_host[0]);
        let ring =
            |pfns: &[u64]| RingPages::new(Pages::resolve(&self.ram, pfns).expect("RAM")).expect("a ring");
        let outgoing = Outgoing::open(ring(to_host)).expect("an empty ring");
        let incoming = Incoming::open(ring(from_host)).expect("an empty ring");
        // A guest sets the feature bit on both control pages before it opens the channel.
        Outgoing::open(ring(from_host)).expect("an empty ring");
        self.open_lent(offer, ring_gpadl, outgoing_pages)?;
        Ok(TestChannel::new(*offer, ring_gpadl, Arc::clone(&self.synic), (outgoing, incoming)))
    }

    /// Asks the host to open a channel on a GPADL; `Err` is the status of a refusal.
    ///
    /// # Errors
    /// When the host refuses.
    pub fn open_lent(
        &mut self,
        offer: &OfferSeen,
        ring_gpadl: u32,
        outgoing_pages: usize,
    ) -> Result<(), u32> {
        let mut open = OpenChannel::new_zeroed();
        open.channel = offer.offer.channel;
        open.open_id = offer.offer.channel;
        open.ring_gpadl = ring_gpadl.into();
        open.downstream_page_offset = (outgoing_pages as u32).into();
        open.user_data = self.user_data;
        self.send(message_type::OPEN_CHANNEL, open.as_bytes());
        let result: OpenChannelResult = self.receive(message_type::OPEN_CHANNEL_RESULT);
        assert_eq!(result.channel.get(), offer.channel());
        if result.status.get() == 0 { Ok(()) } else { Err(result.status.get()) }
    }

    /// Closes a channel and takes its pages back.
    pub fn close(&mut self, channel: TestChannel) {
        let (offer, ring_gpadl) = (channel.offer, channel.ring_gpadl);
        drop(channel);
        self.send(message_type::CLOSE_CHANNEL, ChannelName { channel: offer.offer.channel }.as_bytes());
        let teardown = GpadlTeardown { channel: offer.offer.channel, gpadl: ring_gpadl.into() };
        self.send(message_type::GPADL_TEARDOWN, teardown.as_bytes());
        let torndown: GpadlTorndown = self.receive(message_type::GPADL_TORNDOWN);
        assert_eq!(torndown.gpadl.get(), ring_gpadl);
    }
}
