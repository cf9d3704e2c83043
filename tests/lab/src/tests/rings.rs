//! Family `rings`: rings of every size that the guest asks for, opened and closed again and again, refused when
//! they could carry nothing, and in the hands of a hostile guest. The guest runs the ring probe.

use std::time::Duration;

use anyhow::{Context, Result, ensure};

use super::{Test, check_warnings};
use crate::busman::{Loopback, Report};
use crate::lab::Lab;
use crate::probe;
use crate::vm::Vm;

pub const TESTS: &[Test] = &[
    Test { name: "rings of the sizes that the guest asks for", run: sizes },
    Test { name: "1000 openings, in 5 loadings of the module", run: openings },
    Test { name: "rings that are too small are refused, and the reason is said", run: refused },
    Test { name: "the bus goes on under a hostile guest", run: hostile },
    Test { name: "packets in rings cost no exits", run: no_exits },
];

/// Pages of the incoming and the outgoing ring. Linux allocates both as one block of at most 1024 pages.
pub const SIZES: [(u32, u32); 8] =
    [(2, 2), (2, 9), (9, 2), (3, 5), (17, 128), (512, 2), (2, 512), (512, 512)];

/// What the ring probe asks for in vain at each loading: memory that is none, an operation that is none, and one
/// delayed answer more than there may be.
const REFUSALS: u64 = 3;

/// What a hostile guest may leave behind in busman's memory: far more than its budgets allow, far less than a leak
/// for each of its messages would be.
const MOST_GROWTH_KIB: u64 = 16 << 10;

/// Runs a guest that loads the ring probe as `load` wishes.
fn with_guest(lab: &mut Lab, load: impl FnOnce(&mut Vm<'_>) -> Result<()>) -> Result<Report> {
    let guest = probe::guest(lab)?;
    let mut vm = lab.start(&guest)?;
    vm.expect("lab: ready")?;
    load(&mut vm)?;
    vm.tell("end")?;
    let outcome = vm.finish_well()?;
    check_warnings(&outcome)?;
    outcome.report()
}

fn sizes(lab: &mut Lab) -> Result<()> {
    let report = with_guest(lab, |vm| {
        for (incoming, outgoing) in SIZES {
            let parameters = format!("in={incoming} out={outgoing}");
            let said = probe::load(vm, &parameters)?;
            let row = probe::table(vm, "loopback")?;
            probe::check(&row, &said).with_context(|| parameters)?;
        }
        Ok(())
    })?;
    let channel = report.channel("loopback")?;
    let last = (channel.incoming_pages, channel.outgoing_pages);
    ensure!(last == (512, 512), "the report shows {last:?} pages, incoming and outgoing");
    ensure!(channel.opens == SIZES.len() as u64, "the report shows {} openings", channel.opens);
    let loopback = report.loopback.context("the report has no loopback")?;
    let expected = Loopback { dropped: 0, refused: REFUSALS * SIZES.len() as u64 };
    ensure!(loopback == expected, "the device's counters are {loopback:?}");
    Ok(())
}

fn openings(lab: &mut Lab) -> Result<()> {
    let report = with_guest(lab, |vm| {
        for (incoming, outgoing) in SIZES.iter().take(5) {
            let said =
                probe::load(vm, &format!("mode=cycles cycles=200 burst=4 in={incoming} out={outgoing}"))?;
            probe::check(&probe::table(vm, "loopback")?, &said)?;
        }
        Ok(())
    })?;
    let opens = report.channel("loopback")?.opens;
    ensure!(opens == 1000, "busman counted {opens} openings instead of 1000");
    Ok(())
}

fn refused(lab: &mut Lab) -> Result<()> {
    let report = with_guest(lab, |vm| {
        // 8192 bytes with what is around them need three pages of data, and a control page.
        for (incoming, outgoing, side) in [(2, 9, "incoming"), (9, 2, "outgoing")] {
            vm.tell(&format!("mode=refused payload=8192 in={incoming} out={outgoing}"))?;
            vm.expect("lab: probe refused ")?;
            let reason = vm.expect_log("of loopback cannot be opened: ")?;
            ensure!(reason.contains(side), "the host does not name the {side} ring: {reason:?}");
            vm.expect("lab: probe ok ")?;
            vm.expect("lab: ready")?;
        }
        Ok(())
    })?;
    let opens = report.channel("loopback")?.opens;
    ensure!(opens == 2, "busman counted {opens} openings, and two were refused");
    Ok(())
}

/// Whatever the guest did to one channel, its others go on, and so does that one when it is opened anew.
fn hostile(lab: &mut Lab) -> Result<()> {
    with_guest(lab, |vm| {
        vm.expect_log("The guest's heart beats")?;
        let memory = vm.sample()?.overhead_kib;
        for seed in 1..=2 {
            vm.tell(&format!("mode=hostile packets=3000 seed={seed}"))?;
            vm.expect("lab: probe survived ")?;
            vm.expect("lab: ready")?;
        }
        let grown = vm.sample()?.overhead_kib.saturating_sub(memory);
        ensure!(grown < MOST_GROWTH_KIB, "busman has {grown} KiB more than before");
        let said = probe::load(vm, "in=3 out=5")?;
        probe::check(&probe::table(vm, "loopback")?, &said)?;
        let before = probe::table(vm, "heartbeat")?.packets;
        vm.run_for(Duration::from_secs(5))?;
        let after = probe::table(vm, "heartbeat")?.packets;
        ensure!(before != after, "the guest's heart stopped at {after} packets");
        Ok(())
    })?;
    Ok(())
}

/// Exits to user space do not grow with the number of packets.
fn no_exits(lab: &mut Lab) -> Result<()> {
    let few = with_guest(lab, |vm| probe::load(vm, "packets=100 wraps=0 payload=512").map(drop))?;
    let many = with_guest(lab, |vm| probe::load(vm, "packets=20000 wraps=0 payload=512").map(drop))?;
    let exits = |report: &Report| report.exits().values().sum::<u64>();
    let packets = |report: &Report| -> Result<u64> {
        let channel = report.channel("loopback")?;
        ensure!(channel.exits == 0, "packets cost {} exits to user space", channel.exits);
        Ok(channel.packets_in + channel.packets_out)
    };
    let (more_packets, more_exits) =
        (packets(&many)?.saturating_sub(packets(&few)?), exits(&many).saturating_sub(exits(&few)));
    ensure!(more_packets > 50_000, "only {more_packets} packets more");
    ensure!(more_exits < more_packets / 200, "{more_packets} packets more cost {more_exits} exits more");
    Ok(())
}
