//! dm-error: exact ranges that fail, of the source or of one destination among several, in every way of carrying a job out.

use kcopyd::client::{JobFlags, WriteOrder};
use kcopyd::copy::outcome::{DestinationState, FailedOperation, Outcome};
use rustix::io::Errno;

use super::{FLUSH, IGNORE, STOP};
use crate::case::{Cases, Setting};
use crate::disk::SECTORS;
use crate::session::Session;
use crate::world::{Range, World, failures_of};

/// One page in the middle of a piece in the middle of the job.
const BAD: Range = (2056, 8);
const EIO: i32 = Errno::IO.raw_os_error();

/// Sequential overrides ignoring errors (P14).
const SEQUENTIAL: JobFlags = JobFlags { order: WriteOrder::Sequential, ..IGNORE };

pub fn add(cases: &mut Cases) {
    cases.everywhere("P8 P13 P17 bad source", |setting| p8_p13_p17_bad_source(setting, STOP));
    cases.everywhere("P14 P15 bad source, sequential", |setting| p8_p13_p17_bad_source(setting, SEQUENTIAL));
    cases.everywhere("P8 P17 bad source, flush", |setting| p8_p13_p17_bad_source(setting, FLUSH));
    cases.everywhere("P8 P14 bad source, ignoreErrors", p8_p14_bad_source_ignored);
    cases.everywhere("P12 P13 bad destination", |setting| p12_p13_bad_destination(setting, STOP));
    cases.everywhere("P12 P15 bad destination, sequential", |setting| p12_p13_bad_destination(setting, SEQUENTIAL));
    cases.everywhere("P12 P17 bad destination, flush", |setting| p12_p13_bad_destination(setting, FLUSH));
    cases.everywhere("P12 P14 bad destination, ignoreErrors", p12_p14_bad_destination_ignored);
    cases.everywhere("P14 P17 many bad places everywhere, ignoreErrors", p14_p17_many_bad_places);
    cases.everywhere("P12 P17 zeroes on a bad destination", p12_p17_zeroes_on_a_bad_destination);
}

fn run(world: &World, setting: Setting, source: &[Range], destinations: &[&[Range]], flags: JobFlags) -> Outcome {
    let faulty = world.with_errors(source, destinations);
    let opened = faulty.open();
    let mut session = Session::new(setting.engine);
    let outcome = session.run(&opened.job(flags));
    session.close();
    outcome
}

fn p8_p13_p17_bad_source(setting: Setting, flags: JobFlags) {
    let world = World::new(setting);
    let outcome = run(&world, setting, &[BAD], &[], flags);
    world.stopped(&outcome, FailedOperation::Read, None, BAD, EIO);
}

fn p8_p14_bad_source_ignored(setting: Setting) {
    let world = World::new(setting);
    let outcome = run(&world, setting, &[BAD], &[], IGNORE);
    assert_eq!(failures_of(&outcome), [(FailedOperation::Read, None, BAD, EIO)]);
    assert_eq!((outcome.read_errno, outcome.write_errors), (EIO, 0));
    assert_eq!(outcome.prefix_bytes / 512, BAD.0);
    for index in 0..setting.destinations {
        world.holds_all(index, &[BAD], &[]);
    }
}

/// The last destination's ranges, all others good.
fn last_of(setting: Setting, bad: &[Range]) -> Vec<&[Range]> {
    let mut ranges: Vec<&[Range]> = vec![&[]; setting.destinations];
    ranges[setting.destinations - 1] = bad;
    ranges
}

fn p12_p13_bad_destination(setting: Setting, flags: JobFlags) {
    let world = World::new(setting);
    let outcome = run(&world, setting, &[], &last_of(setting, &[BAD]), flags);
    let last = (setting.destinations - 1) as u8;
    world.stopped(&outcome, FailedOperation::Write, Some(last), BAD, EIO);
}

fn p12_p14_bad_destination_ignored(setting: Setting) {
    let world = World::new(setting);
    let outcome = run(&world, setting, &[], &last_of(setting, &[BAD]), IGNORE);
    let last = setting.destinations - 1;
    assert_eq!(failures_of(&outcome), [(FailedOperation::Write, Some(last as u8), BAD, EIO)]);
    assert_eq!((outcome.read_errno, outcome.write_errors), (0, 1 << last));
    for index in 0..last {
        assert_eq!(outcome.destinations[index].state, DestinationState::Complete);
        world.holds_all(index, &[], &[]);
    }
    world.holds_all(last, &[], &[BAD]);
    assert_eq!(outcome.destinations[last].prefix_bytes / 512, BAD.0);
}

fn p14_p17_many_bad_places(setting: Setting) {
    let world = World::new(setting);
    // The first sector of all, the last, places side by side, and a range longer than a piece.
    let source: &[Range] = &[(0, 8), (64, 16), (1000, 8), (1016, 8), (2500, 300), (4088, 8)].map(whole_pages);
    let each: [&[Range]; 3] = [&[(8, 8), (3000, 8)], &[(8, 8), (512, 128), (4080, 8)], &[(3000, 160)]];
    let destinations = &each[..setting.destinations];
    let outcome = run(&world, setting, source, destinations, IGNORE);
    let mut expected: Vec<_> = source.iter().map(|&bad| (FailedOperation::Read, None, bad, EIO)).collect();
    for (bad, index) in destinations.iter().zip(0..) {
        expected.extend(bad.iter().map(|&bad| (FailedOperation::Write, Some(index), bad, EIO)));
    }
    assert_eq!(failures_of(&outcome), expected);
    assert_eq!((outcome.read_errno, outcome.write_errors), (EIO, (1 << setting.destinations) - 1));
    for (index, bad) in destinations.iter().enumerate() {
        world.holds_all(index, source, bad);
    }
}

/// Whole pages, so that the ranges are the same to 512 and to 4096 byte blocks, and exact.
fn whole_pages((sector, count): Range) -> Range {
    let first = sector / 8 * 8;
    (first, (sector + count).div_ceil(8) * 8 - first)
}

fn p12_p17_zeroes_on_a_bad_destination(setting: Setting) {
    let world = World::new(setting);
    let faulty = world.with_errors(&[], &last_of(setting, &[BAD]));
    let opened = faulty.open();
    let mut session = Session::new(setting.engine);
    let mut job = opened.job(IGNORE);
    job.source = None;
    job.destinations.iter_mut().for_each(|to| to.count = Some(SECTORS));
    let outcome = session.run(&job);
    session.close();
    let last = setting.destinations - 1;
    assert_eq!(failures_of(&outcome), [(FailedOperation::Zero, Some(last as u8), BAD, EIO)]);
    assert_eq!((outcome.read_errno, outcome.write_errors), (0, 1 << last));
    let everything = (0, SECTORS);
    for index in 0..last {
        world.holds_all(index, &[everything], &[]);
    }
    world.holds_all(last, &[(0, BAD.0), (BAD.0 + BAD.1, everything.1 - BAD.0 - BAD.1)], &[BAD]);
}
