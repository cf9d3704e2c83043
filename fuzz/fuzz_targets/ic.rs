//! The integration services that users reach into the guest with, against any packets and schedules.
//!
//! Bytes become steps: a user asks, the guest answers the last message with what it likes, sends any packet at all, or
//! the worker has its turn. Whatever the guest does, each request gets one outcome and no more, at the latest when
//! the channel closes; and an honest driver that takes over is served.
//!
//! Run it with `cargo fuzz run ic` (nightly, or `RUSTC_BOOTSTRAP=1`).

#![no_main]

mod input;

use std::io::Cursor;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use devices::ic::device::{IcDevice, IcWorker, Service};
use devices::ic::fcopy::{CopyRequest, Fcopy};
use devices::ic::kvp::{IpInfo, Kvp, KvpRequest, Pair, Pool};
use devices::ic::protocol::{
    FLAG_RESPONSE, FLAG_TRANSACTION, IcHeader, IcVersion, Negotiate, message_type, status,
};
use devices::ic::vss::{Vss, VssRequest};
use devices::mem::{GuestRam, PAGE_SIZE};
use devices::testing::TestWorker;
use devices::vmbus::channel::VmbusDevice;
use devices::vmbus::ring::protocol::PipeHeader;
use devices::vmbus::ring::{PacketOut, pipe_message};
use input::Input;
use libfuzzer_sys::fuzz_target;
use vm_memory::GuestAddress;
use zerocopy::{FromBytes, IntoBytes};

const RING_PAGES: u64 = 4;
/// Nobody's time is over while the input runs, but for those who have none.
const LONG: Duration = Duration::from_secs(3600);

fuzz_target!(|bytes: &[u8]| {
    let mut input = Input(bytes);
    match input.byte() % 3 {
        0 => {
            let (device, handle) = Kvp::device().expect("a device");
            run(device, input, |input, outcome| {
                let patience = if input.byte() % 8 == 0 { Duration::ZERO } else { LONG };
                handle.send(kvp(input), patience, move |_| {
                    outcome.fetch_add(1, Ordering::Relaxed);
                });
            });
        }
        1 => {
            let (device, handle) = Vss::device().expect("a device");
            run(device, input, |input, outcome| {
                let limit = if input.byte() % 8 == 0 { Duration::ZERO } else { LONG };
                let request = [VssRequest::Check, VssRequest::Freeze(limit), VssRequest::Thaw];
                let (request, short) = (request[usize::from(input.byte() % 3)], input.byte() % 8 == 0);
                let patience = if short { Duration::ZERO } else { LONG };
                handle.send(request, patience, move |_| {
                    outcome.fetch_add(1, Ordering::Relaxed);
                });
            });
        }
        _ => {
            let (device, handle) = Fcopy::device().expect("a device");
            run(device, input, |input, outcome| {
                if input.byte() % 4 == 0 {
                    let _ = handle.cancel();
                }
                let bytes = vec![7; usize::from(input.byte()) * 97];
                let request = CopyRequest {
                    size: bytes.len() as u64 + u64::from(input.byte() / 250),
                    source: Box::new(Cursor::new(bytes)),
                    to: String::from_utf8_lossy(&[b"/", input.bytes(5)].concat()).into_owned(),
                    overwrite: false,
                    create_path: false,
                };
                handle.start(request, move |_| {
                    outcome.fetch_add(1, Ordering::Relaxed);
                });
            });
        }
    }
});

fn kvp(input: &mut Input<'_>) -> KvpRequest {
    let choice = input.byte();
    let pool = Pool::ALL[usize::from(choice >> 6)];
    let text = |input: &mut Input<'_>| {
        let len = usize::from(input.byte()) * 5;
        String::from_utf8_lossy(input.bytes(4)).repeat(len)
    };
    match choice % 6 {
        0 => KvpRequest::Get(pool, text(input)),
        1 => KvpRequest::Set(pool, Pair { key: text(input), value: text(input) }),
        2 => KvpRequest::Delete(pool, text(input)),
        3 => KvpRequest::Enumerate(pool),
        4 => KvpRequest::GetIp(text(input)),
        _ => {
            let networks = ["10.0.0.1/8", "fe80::1/64"].map(|text| text.parse().expect("a network"));
            let addresses = networks.into_iter().cycle().take(usize::from(input.byte())).collect();
            KvpRequest::SetIp(text(input), IpInfo { addresses, ..IpInfo::default() })
        }
    }
}

/// An opening of the device's channel, and the host's last message.
struct Channel<S> {
    worker: TestWorker<IcWorker<S>>,
    last: Option<(IcHeader, Vec<u8>)>,
}

impl<S: Service> Channel<S> {
    fn open(device: &mut IcDevice<S>, ram: &GuestRam) -> Self {
        let pfns: Vec<u64> = (0..2 * RING_PAGES).collect();
        let rings = pfns.split_at(RING_PAGES as usize);
        let worker = TestWorker::open(device, ram, rings, [0; 120]).expect("an honest opening");
        let mut channel = Channel { worker, last: None };
        channel.worker.ring().expect("a worker that starts");
        channel.take();
        channel
    }

    /// Takes the host's messages.
    fn take(&mut self) {
        let last = &mut self.last;
        let mut take = || {
            self.worker.receive(|packet| {
                let (_, data) = pipe_message(packet.payload).expect("a pipe's message");
                let (header, body) = IcHeader::read_from_prefix(data).expect("a header");
                assert_eq!(usize::from(header.size.get()), body.len());
                assert!(body.len() <= S::BODY_MAX.max(64));
                *last = Some((header, body.to_vec()));
            })
        };
        while take().is_some() {}
    }

    fn answer(&mut self, mut header: IcHeader, status: u32, body: &[u8]) {
        header.flags = FLAG_TRANSACTION | FLAG_RESPONSE;
        header.status = status.into();
        let pipe = PipeHeader::data((size_of::<IcHeader>() + body.len()) as u32);
        self.worker.send(&PacketOut::in_band(0, &[pipe.as_bytes(), header.as_bytes(), body]));
    }

    fn negotiate(&mut self, version: IcVersion) {
        let (header, _) = self.last.take().expect("a negotiation");
        assert_eq!(header.message_type.get(), message_type::NEGOTIATE);
        let head = Negotiate { framework_count: 1.into(), version_count: 1.into(), reserved: 0.into() };
        let versions = [IcVersion::new(3, 0), version];
        self.answer(header, 0, &[head.as_bytes(), versions.as_bytes()].concat());
        self.worker.ring().expect("a worker that goes on");
    }
}

fn run<S: Service>(
    mut device: IcDevice<S>,
    mut input: Input<'_>,
    mut ask: impl FnMut(&mut Input<'_>, Arc<AtomicUsize>),
) {
    let ram = GuestRam::from_ranges(&[(GuestAddress(0), 16 * PAGE_SIZE)]).expect("RAM");
    let (mut asked, outcomes) = (0, Arc::new(AtomicUsize::new(0)));
    let mut channel = Channel::open(&mut device, &ram);
    let flags = input.byte();
    if flags & 1 == 0 {
        channel.negotiate(S::VERSIONS[usize::from(flags >> 1) % S::VERSIONS.len()]);
    }
    while !input.0.is_empty() {
        let step = match input.byte() % 8 {
            0 | 1 => {
                asked += 1;
                ask(&mut input, Arc::clone(&outcomes));
                channel.worker.fire(1)
            }
            2 => channel.worker.fire(1),
            3 => {
                let payload = [input.bytes(80)];
                channel.worker.send(&PacketOut::in_band(0, &payload));
                channel.worker.ring()
            }
            _ => {
                answer(&mut input, &mut channel);
                channel.worker.ring()
            }
        };
        channel.take();
        if step.is_err() {
            break;
        }
    }
    device.closed(Some(channel.worker.close()));
    assert_eq!(outcomes.load(Ordering::Relaxed), asked, "each request has one outcome");

    // An honest driver takes over.
    let mut channel = Channel::open(&mut device, &ram);
    channel.negotiate(S::VERSIONS[0]);
    // A request that is wrong comes with no message.
    while channel.last.is_none() {
        ask(&mut Input(&[1, 3, 1, 0, 0, 0, 0, 0]), Arc::clone(&outcomes));
        channel.worker.fire(1).expect("a worker that goes on");
        channel.take();
    }
    let (header, body) = channel.last.take().expect("a request");
    channel.answer(header, status::FAIL, &body);
    channel.worker.ring().expect("a worker that goes on");
}

/// The guest answers the host's last message: its header and body, partly overwritten, or cut off.
fn answer<S: Service>(input: &mut Input<'_>, channel: &mut Channel<S>) {
    let Some((header, mut body)) = channel.last.take() else { return };
    let shape = input.byte();
    let status = match shape % 8 {
        0 => status::NO_MORE_ITEMS,
        1 => status::FAIL,
        2 => input.byte().into(),
        _ => 0,
    };
    for _ in 0..(shape >> 3) % 8 {
        let at = usize::from(u16::from_le_bytes([input.byte(), input.byte()])) % body.len().max(1);
        let bytes = input.bytes(4);
        body.iter_mut().skip(at).zip(bytes).for_each(|(to, from)| *to = *from);
    }
    if shape >> 6 == 3 {
        body.truncate(usize::from(input.byte()) * 32);
    }
    channel.answer(header, status, &body);
}
