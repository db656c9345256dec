//! The nine rules, one function or more for each.

use std::sync::Arc;

use kcopyd::copy::chain::{Blank, BufferStart, Operation, Step, StepResult};
use kcopyd::copy::limits::{CHAIN_STEPS_MAX, ENGINE_STEPS_MAX, SECTOR_BYTES, SUB_JOB_SECTORS_MAX};
use kcopyd::engine::simulated::Random;
use kcopyd::engine::{Engine, Wait};

use crate::fixture::Fixture;
use crate::laboratory::{Laboratory, PAGE, chain, flush, pattern, read, write};

use StepResult::{Done, Failed, NotAttempted};

/// A chain for which there is no room comes back as it was, and neither its device nor its pages are touched.
pub fn rule_1_takes_whole_or_not_at_all<F: Fixture>() {
    let mut laboratory = Laboratory::<F>::new(ENGINE_STEPS_MAX);
    let bytes = pattern(1, PAGE as usize);
    let (_, source) = laboratory.device(&bytes);
    let (copy, destination) = laboratory.device(&[]);
    let (untouched, refused_destination) = laboratory.device(&pattern(2, PAGE as usize));
    laboratory.run([chain(1, [read(source, 0, PAGE, 0)])]);
    let mut tag = 2;
    let refused = loop {
        let page = tag as u32;
        let steps = [read(source, 0, PAGE, page), write(destination, 0, PAGE, page), write(destination, 0, PAGE, page)];
        if laboratory.try_stage(chain(tag, steps)).is_err() {
            let mut refused = chain(tag, [write(refused_destination, 0, PAGE, 0), flush(source), flush(source)]);
            refused.blanks.push(Blank { buffer: BufferStart { page: 0, offset_bytes: 0 }, length_bytes: PAGE });
            break refused;
        }
        tag += 1;
    };
    assert_eq!(laboratory.try_stage(refused.clone()), Err(refused), "handed back as it was");
    let results = laboratory.settle();
    assert_eq!(results.len() as u64, 1 + (tag - 2) * 3, "a refused chain has no completion");
    assert!(results.values().all(|result| *result == Done(PAGE)));
    assert_eq!(laboratory.bytes(&untouched, PAGE as usize), pattern(2, PAGE as usize));
    laboratory.run([chain(tag, [write(destination, 0, PAGE, 0)])]);
    assert_eq!(laboratory.bytes(&copy, PAGE as usize), bytes, "the refused chain's blank was not filled");
}

/// The largest chain there is fits into an engine that has nothing to do, again and again.
pub fn rule_1_an_idle_engine_takes_any_chain<F: Fixture>() {
    let mut laboratory = Laboratory::<F>::new(1);
    let bytes = pattern(1, PAGE as usize);
    let (_, source) = laboratory.device(&bytes);
    let copies: Vec<_> = (1..CHAIN_STEPS_MAX).map(|_| laboratory.device(&[])).collect();
    for tag in 0..20 {
        let writes = copies.iter().map(|(_, index)| write(*index, tag * u64::from(PAGE), PAGE, 0));
        laboratory.stage(chain(tag, std::iter::once(read(source, 0, PAGE, 0)).chain(writes)));
        let results = laboratory.settle();
        assert!(results.values().all(|result| *result == Done(PAGE)), "{results:?}");
    }
    for (copy, _) in &copies {
        assert_eq!(laboratory.bytes(copy, 20 * PAGE as usize), bytes.repeat(20));
    }
}

/// What is staged waits for its submission, however much is done meanwhile by others.
pub fn rule_2_nothing_before_submit<F: Fixture>() {
    let mut laboratory = Laboratory::<F>::new(1);
    let old = pattern(1, PAGE as usize);
    let (copy, destination) = laboratory.device(&old);
    laboratory.stage(chain(1, [write(destination, 0, PAGE, 0)]));
    let mut others = Laboratory::<F>::new(100);
    let (_, other) = others.device(&old);
    others.run((0..100).map(|tag| chain(tag, [read(other, 0, PAGE, tag as u32)])));
    assert_eq!(laboratory.bytes(&copy, PAGE as usize), old);
    laboratory.settle();
    assert_eq!(laboratory.bytes(&copy, PAGE as usize), vec![0; PAGE as usize]);
}

/// Every destination gets what its own read has just brought, never what the page held before.
pub fn rule_3_writes_after_the_read<F: Fixture>() {
    const CHAINS: u64 = 48;
    const PAGES: u32 = 4;
    const LENGTH: u32 = PAGES * PAGE;
    let mut laboratory = Laboratory::<F>::new(CHAINS as u32 * PAGES);
    let whole = CHAINS as usize * LENGTH as usize;
    let copies: Vec<_> = (0..3).map(|_| laboratory.device(&vec![0xEE; whole])).collect();
    for round in 0..8 {
        let bytes = pattern(round, whole);
        let (_, source) = laboratory.device(&bytes);
        let chains = (0..CHAINS).map(|index| {
            let (offset, page) = (index * u64::from(LENGTH), index as u32 * PAGES);
            let writes = copies.iter().map(move |(_, copy)| write(*copy, offset, LENGTH, page));
            chain(round * CHAINS + index, std::iter::once(read(source, offset, LENGTH, page)).chain(writes))
        });
        let results = laboratory.run(chains.collect::<Vec<_>>());
        assert!(results.values().all(|result| *result == Done(LENGTH)));
        for (copy, _) in &copies {
            assert!(laboratory.bytes(copy, whole) == bytes, "round {round}");
        }
    }
}

/// A failed read leaves all destinations as they were, and its other steps say so.
pub fn rule_4_no_write_after_a_failed_read<F: Fixture>() {
    let mut laboratory = Laboratory::<F>::new(1);
    let old = pattern(1, PAGE as usize);
    let faulty = laboratory.fixture.unreadable(&pattern(2, PAGE as usize));
    let source = laboratory.attach(&faulty.device);
    let copies = [laboratory.device(&old), laboratory.device(&old)];
    let writes = copies.each_ref().map(|(_, index)| write(*index, 0, PAGE, 0));
    let steps = [read(source, 0, PAGE, 0), writes[0], writes[1], flush(copies[0].1)];
    laboratory.run([chain(1, steps)]);
    assert_eq!(laboratory.results_of(1), [Failed(faulty.errno), NotAttempted, NotAttempted, NotAttempted]);
    for (copy, _) in &copies {
        assert_eq!(laboratory.bytes(copy, PAGE as usize), old);
    }
}

/// A read that comes short, also with nothing at all, counts as one that failed: the page holds something else behind it.
pub fn rule_4_no_write_after_a_short_read<F: Fixture>() {
    let mut laboratory = Laboratory::<F>::new(2);
    let old = pattern(1, 2 * PAGE as usize);
    let (_, source) = laboratory.device(&pattern(2, 5000));
    let (copy, destination) = laboratory.device(&old);
    let short = |tag, offset| {
        let steps = [read(source, offset, 2 * PAGE, 0), write(destination, 0, 2 * PAGE, 0), write(destination, 0, PAGE, 0)];
        chain(tag, steps)
    };
    for (tag, offset, moved) in [(1, 0, 5000), (2, 4096, 904), (3, 8192, 0), (4, 1 << 30, 0)] {
        laboratory.run([short(tag, offset)]);
        assert_eq!(laboratory.results_of(tag), [Done(moved), NotAttempted, NotAttempted], "from byte {offset}");
        assert_eq!(laboratory.bytes(&copy, 2 * PAGE as usize), old);
    }
}

/// Wherever among the writes the failing one stands, and whether or not the chain reads first, the others arrive.
pub fn rule_5_failures_are_private<F: Fixture>() {
    let mut laboratory = Laboratory::<F>::new(1);
    let bytes = pattern(1, PAGE as usize);
    let (_, source) = laboratory.device(&bytes);
    let faulty = laboratory.fixture.unwritable(&pattern(2, PAGE as usize));
    let bad = laboratory.attach(&faulty.device);
    for bad_at in 0..3 {
        for reads in [1, 0] {
            let tag = bad_at as u64 * 2 + reads as u64;
            let copies: Vec<_> = (0..3).map(|_| laboratory.device(&[])).collect();
            let device = |at: usize| if at == bad_at { bad } else { copies[at].1 };
            let writes = (0..3).map(|at| write(device(at), 0, PAGE, 0));
            laboratory.run([chain(tag, std::iter::repeat_n(read(source, 0, PAGE, 0), reads).chain(writes))]);
            let expected = |at: usize| if at == bad_at { Failed(faulty.errno) } else { Done(PAGE) };
            let results = laboratory.results_of(tag);
            assert_eq!(results[reads..], (0..3).map(expected).collect::<Vec<_>>(), "bad at {bad_at}, {reads} reads");
            for (at, (copy, _)) in copies.iter().enumerate().filter(|(at, _)| *at != bad_at) {
                assert_eq!(laboratory.bytes(copy, PAGE as usize), bytes, "destination {at}, bad at {bad_at}");
            }
        }
    }
    assert_eq!(laboratory.bytes(&faulty.device, PAGE as usize), pattern(2, PAGE as usize));
}

/// A write that comes short says by how much, and the others arrive in full.
pub fn rule_5_short_writes_are_private<F: Fixture>() {
    let mut laboratory = Laboratory::<F>::new(2);
    let (length, bytes) = (2 * PAGE, pattern(1, 2 * PAGE as usize));
    let (_, source) = laboratory.device(&bytes);
    let (faulty, full_at) = laboratory.fixture.full();
    let full = laboratory.attach(&faulty.device);
    let copies = [laboratory.device(&[]), laboratory.device(&[])];
    for (tag, offset, result) in [(1, full_at - u64::from(PAGE), Done(PAGE)), (2, full_at, Failed(faulty.errno))] {
        let steps = [
            read(source, 0, length, 0),
            write(copies[0].1, 0, length, 0),
            write(full, offset, length, 0),
            write(copies[1].1, 0, length, 0),
        ];
        laboratory.run([chain(tag, steps)]);
        assert_eq!(laboratory.results_of(tag), [Done(length), Done(length), result, Done(length)]);
    }
    let landed = laboratory.fixture.bytes(&faulty.device, full_at - u64::from(PAGE)..full_at);
    assert_eq!(landed, bytes[..PAGE as usize]);
    for (copy, _) in &copies {
        assert_eq!(laboratory.bytes(copy, length as usize), bytes);
    }
}

/// A thousand chains of all kinds: the laboratory counts each step once, and knows each.
pub fn rule_6_one_completion_per_step<F: Fixture>() {
    const TOGETHER: u64 = 200;
    let mut laboratory = Laboratory::<F>::new(TOGETHER as u32);
    let mut random = Random::new(6);
    let (_, good) = laboratory.device(&pattern(1, 64 * PAGE as usize));
    let (_, copy) = laboratory.device(&[]);
    let unreadable = laboratory.fixture.unreadable(&[1]);
    let unwritable = laboratory.fixture.unwritable(&[1]);
    let unflushable = laboratory.fixture.unflushable(&[1]);
    let [unreadable, unwritable, unflushable] =
        [&unreadable, &unwritable, &unflushable].map(|faulty| laboratory.attach(&faulty.device));
    for batch in 0..10 {
        let chains: Vec<_> = (0..TOGETHER)
            .map(|index| {
                let page = index as u32;
                // One in 65 of the good reads begins where the device ends.
                let first = match random.below(4) {
                    0 => Some(read(unreadable, 0, PAGE, page)),
                    1 => None,
                    _ => Some(read(good, random.below(65) * u64::from(PAGE), PAGE, page)),
                };
                let others: Vec<_> = (0..=random.below(5))
                    .map(|_| match (random.below(5), random.below(64) * u64::from(PAGE)) {
                        (0, offset) => write(unwritable, offset, PAGE, page),
                        (1, _) => flush(unflushable),
                        (2, _) => flush(copy),
                        (_, offset) => write(copy, offset, PAGE, page),
                    })
                    .collect();
                chain(batch * TOGETHER + index, first.into_iter().chain(others))
            })
            .collect();
        // More steps than an engine takes: some chains wait for room while others end.
        assert!(chains.iter().map(|chain| chain.steps.len()).sum::<usize>() > ENGINE_STEPS_MAX as usize);
        laboratory.run(chains);
    }
}

/// Steps that are over as soon as they begin come home from `submit_and_wait` all the same, also when chains are staged
/// while others end.
pub fn rule_7_never_from_inside_stage<F: Fixture>() {
    let mut laboratory = Laboratory::<F>::new(1);
    let faulty = laboratory.fixture.unflushable(&[1]);
    let device = laboratory.attach(&faulty.device);
    for tag in 0..50 {
        laboratory.stage(chain(tag, [flush(device)]));
        assert_eq!(laboratory.results_of(tag), [], "not before the call that collects it");
        if tag % 3 == 0 {
            laboratory.submit(Wait::No);
        }
    }
    let results = laboratory.settle();
    assert_eq!(results.len(), 50);
    assert!(results.values().all(|result| *result == Failed(faulty.errno)));
}

/// A page that is used again the moment its chain's last completion has come never mixes two chains, and chains on
/// different pages of one chunk do not disturb each other.
pub fn rule_8_pages_are_the_engines_until_the_last_completion<F: Fixture>() {
    const PIECES: u64 = 200;
    let mut laboratory = Laboratory::<F>::new(3);
    let bytes = pattern(8, PIECES as usize * PAGE as usize);
    let (_, source) = laboratory.device(&bytes);
    let copies: Vec<_> = (0..2).map(|_| laboratory.device(&[])).collect();
    for (index, tags) in (0..PIECES).collect::<Vec<_>>().chunks(3).enumerate() {
        for (page, tag) in tags.iter().enumerate() {
            let (offset, page) = (tag * u64::from(PAGE), (page + index) as u32 % 3);
            let writes = copies.iter().map(|(_, copy)| write(*copy, offset, PAGE, page));
            laboratory.stage(chain(*tag, std::iter::once(read(source, offset, PAGE, page)).chain(writes)));
        }
        laboratory.settle();
    }
    for (copy, _) in &copies {
        assert!(laboratory.bytes(copy, bytes.len()) == bytes);
    }
}

/// A tail is read into a page that held something else: what lies behind it arrives as zeros.
pub fn rule_8_blanks_are_zero_before_the_first_write<F: Fixture>() {
    let mut laboratory = Laboratory::<F>::new(2);
    let (_, junk) = laboratory.device(&[0xFF; 2 * PAGE as usize]);
    let tail = pattern(1, PAGE as usize);
    let (_, source) = laboratory.device(&tail);
    let (copy, destination) = laboratory.device(&[]);
    laboratory.run([chain(1, [read(junk, 0, 2 * PAGE, 0)])]);
    let mut padded = chain(2, [read(source, 0, PAGE, 0), write(destination, 0, 2 * PAGE, 0)]);
    padded.blanks.push(Blank { buffer: BufferStart { page: 0, offset_bytes: PAGE }, length_bytes: PAGE - 512 });
    laboratory.run([padded]);
    let expected = [tail, vec![0; PAGE as usize - 512], vec![0xFF; 512]].concat();
    assert_eq!(laboratory.bytes(&copy, 2 * PAGE as usize), expected);
}

/// What was submitted has landed when the engine is gone, and its devices are let go.
pub fn rule_9_drop_drains<F: Fixture>() {
    const WRITES: u64 = 64;
    const LENGTH: u32 = 16 * PAGE;
    let whole = WRITES as usize * LENGTH as usize;
    let mut laboratory = Laboratory::<F>::new(16 * WRITES as u32);
    let bytes = pattern(9, whole);
    let (_, source) = laboratory.device(&bytes);
    let (copy, destination) = laboratory.device(&[]);
    let (offset, page) = (|index| index * u64::from(LENGTH), |index| index as u32 * 16);
    laboratory.run((0..WRITES).map(|at| chain(at, [read(source, offset(at), LENGTH, page(at))])));
    for at in 0..WRITES {
        laboratory.stage(chain(WRITES + at, [write(destination, offset(at), LENGTH, page(at))]));
    }
    laboratory.submit(Wait::No);
    let Laboratory { fixture, engine, .. } = laboratory;
    drop(engine);
    assert!(fixture.bytes(&copy, 0..whole as u64) == bytes);
    assert_eq!(Arc::strong_count(&copy), 1);
}

/// What was staged and never submitted is not started by the engine's end.
pub fn rule_9_drop_starts_nothing<F: Fixture>() {
    let mut laboratory = Laboratory::<F>::new(1);
    let old = pattern(1, PAGE as usize);
    let (copy, destination) = laboratory.device(&old);
    laboratory.stage(chain(1, [write(destination, 0, PAGE, 0)]));
    let Laboratory { fixture, engine, .. } = laboratory;
    drop(engine);
    assert_eq!(fixture.bytes(&copy, 0..u64::from(PAGE)), old);
    assert_eq!(Arc::strong_count(&copy), 1);
}

/// The second flush of a device whose first has failed fails as well; that of another device does not.
pub fn p18_a_failed_flush_stays_failed<F: Fixture>() {
    let mut laboratory = Laboratory::<F>::new(1);
    let faulty = laboratory.fixture.unflushable(&[1]);
    let bad = laboratory.attach(&faulty.device);
    let (_, good) = laboratory.device(&[1]);
    for tag in [1, 2] {
        laboratory.run([chain(tag, [flush(bad), flush(good)])]);
        assert_eq!(laboratory.results_of(tag), [Failed(faulty.errno), Done(0)]);
    }
}

/// Once its last completion has come and it is detached, nothing of the engine holds a device; its index is free for another.
pub fn p33_a_detached_device_is_let_go<F: Fixture>() {
    let mut laboratory = Laboratory::<F>::new(1);
    for tag in 0..100 {
        let (device, index) = laboratory.device(&pattern(tag, PAGE as usize));
        let steps = [read(index, 0, PAGE, 0), Step { operation: Operation::Write, ..read(index, 0, PAGE, 0) }];
        laboratory.run([chain(tag, steps)]);
        laboratory.engine.detach(index);
        assert_eq!(Arc::strong_count(&device), 1, "round {tag}");
    }
}

/// The engine's own zeros arrive at every destination of a chain, as many as a sub-job can have.
pub fn zeroes_can_be_written_from<F: Fixture>() {
    let mut laboratory = Laboratory::<F>::new(1);
    let length = (SUB_JOB_SECTORS_MAX * SECTOR_BYTES) as u32;
    let old = pattern(1, length as usize + 2 * PAGE as usize);
    let copies = [laboratory.device(&old), laboratory.device(&old)];
    let writes = copies
        .each_ref()
        .map(|(_, index)| Step { buffer: BufferStart::ZEROES, ..write(*index, u64::from(PAGE), length, 0) });
    laboratory.run([chain(1, writes)]);
    assert_eq!(laboratory.results_of(1), [Done(length), Done(length)]);
    let page = PAGE as usize;
    let expected = [&old[..page], &vec![0; length as usize], &old[page + length as usize..]].concat();
    for (copy, _) in &copies {
        assert!(laboratory.bytes(copy, old.len()) == expected);
    }
}

/// A range is zero, and nothing but that range, if the step says so; otherwise nothing has changed.
pub fn a_zero_step_zeroes_its_range_or_fails<F: Fixture>() {
    let mut laboratory = Laboratory::<F>::new(1);
    let old = pattern(1, 16 * PAGE as usize);
    let (copy, destination) = laboratory.device(&old);
    let zero = Step { operation: Operation::Zero, ..write(destination, 2 * u64::from(PAGE), 8 * PAGE, 0) };
    laboratory.run([chain(1, [zero])]);
    let page = PAGE as usize;
    let zeroed = [&old[..2 * page], &vec![0; 8 * page], &old[10 * page..]].concat();
    match laboratory.results_of(1)[..] {
        [Done(length)] => assert!(length == 8 * PAGE && laboratory.bytes(&copy, old.len()) == zeroed),
        [Failed(errno)] => {
            println!("this file system does not zero ranges: errno {errno}");
            assert!(laboratory.bytes(&copy, old.len()) == old);
        }
        ref other => panic!("{other:?}"),
    }
}
