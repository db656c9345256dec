//! The differential: the same random fault tables given to the kernel's own kcopyd and to ours. Both must come to the same verdict for
//! every leg and bring the same number of regions across, and where both say "complete" the same bytes must be there.
//!
//! dm-mirror copies region by region, each as one job of its kcopyd without IGNORE_ERROR; ours is given one job for each region, in the
//! same order. How much of a job is done at its first error differs with timing, so a random table is made such that the verdict does
//! not depend on that: within one region either any legs are bad, but all within 64 KiB that neither divides (the first bad read stops
//! the writes of that piece; bad writes are all tried), or one leg alone is bad, in any places. The last region is never bad: when it
//! has arrived, dm-mirror has tried them all.

use std::path::PathBuf;

use kcopyd::client::EngineChoice;
use kcopyd::engine::simulated::Random;

use super::STOP;
use crate::case::{Cases, ENGINES, engine_name, seed};
use crate::disk::{Disk, Found, SECTORS, disk};
use crate::mapper::{Mapped, with_errors};
use crate::mirror::{Mirror, Verdict};
use crate::session::{Job, PIECE_SECTORS, Session, open_destination, open_source};
use crate::world::{OLD, Range, SOURCE};

const TABLES_PER_CASE: u64 = 10;
const CASES: u64 = 11;

pub fn add(cases: &mut Cases) {
    cases.once("the differential can fail", the_differential_can_fail);
    for case in 0..CASES {
        let first = seed() + case * TABLES_PER_CASE;
        let name = format!("P12 P17 the kernel's kcopyd and ours, fault tables {first} to {}", first + TABLES_PER_CASE - 1);
        cases.once(name, move || {
            let figures: Vec<Figures> = (first..first + TABLES_PER_CASE).map(p12_p17_the_kernels_verdict_is_ours).collect();
            let sum = |of: fn(&Figures) -> u64| figures.iter().map(of).sum::<u64>();
            println!(
                "figure: {TABLES_PER_CASE} tables from seed {first}: {} regions, of which {} failed in both and {} were compared byte by byte",
                sum(|one| one.regions),
                sum(|one| one.failed),
                sum(|one| one.regions - one.failed),
            );
        });
    }
}

struct Figures {
    regions: u64,
    failed: u64,
}

/// A random table: for each leg (the source first) where it is bad.
#[derive(Debug)]
struct Table {
    #[expect(dead_code, reason = "printed where a table is")]
    seed: u64,
    block_bytes: u32,
    region_sectors: u64,
    bad: Vec<Vec<Range>>,
}

impl Table {
    fn new(seed: u64) -> Table {
        let mut random = Random::new(seed);
        let block_bytes = if random.one_in(3) { 4096 } else { 512 };
        let legs = 2 + random.below(3) as usize;
        // Of 64 KiB, a piece of ours, to 1 MiB, two pieces of the kernel's; two regions at least.
        let region_sectors = PIECE_SECTORS << random.below(5);
        let mut table = Table { seed, block_bytes, region_sectors, bad: vec![Vec::new(); legs] };
        for region in 0..SECTORS / region_sectors - 1 {
            match random.below(6) {
                0 | 1 => table.one_window(region * region_sectors, &mut random),
                2 => table.one_leg(region * region_sectors, &mut random),
                _ => {}
            }
        }
        table
    }

    /// Any legs are bad, within one piece.
    fn one_window(&mut self, region: u64, random: &mut Random) {
        let window = region + random.below(self.region_sectors / PIECE_SECTORS) * PIECE_SECTORS;
        for leg in 0..self.bad.len() {
            if random.one_in(2) {
                let range = self.range(window, random);
                self.bad[leg].push(range);
            }
        }
    }

    /// One leg is bad, anywhere.
    fn one_leg(&mut self, region: u64, random: &mut Random) {
        let leg = random.below(self.bad.len() as u64) as usize;
        for window in 0..self.region_sectors / PIECE_SECTORS {
            if random.one_in(2) {
                let range = self.range(region + window * PIECE_SECTORS, random);
                self.bad[leg].push(range);
            }
        }
    }

    /// Some blocks of a piece.
    fn range(&self, window: u64, random: &mut Random) -> Range {
        let unit = u64::from(self.block_bytes) / 512;
        let units = PIECE_SECTORS / unit;
        let first = random.below(units);
        let count = 1 + random.below((units - first).min(16));
        (window + first * unit, count * unit)
    }

    fn regions(&self) -> u64 {
        SECTORS / self.region_sectors
    }
}

/// Disks with the table's faults above them.
struct Legs {
    disks: Vec<Disk>,
    mapped: Mapped,
}

impl Legs {
    fn new(table: &Table) -> Legs {
        let disks: Vec<Disk> = (0..table.bad.len()).map(|index| disk(index, table.block_bytes)).collect();
        disks[0].stamp(SOURCE);
        let tables = disks.iter().zip(&table.bad).enumerate();
        let tables: Vec<_> = tables.map(|(index, (disk, bad))| (format!("leg{index}"), with_errors(disk, bad))).collect();
        Legs { mapped: Mapped::several(&tables), disks }
    }

    fn paths(&self) -> Vec<PathBuf> {
        (0..self.disks.len()).map(|index| self.mapped.path(index)).collect()
    }

    fn stamp_destinations(&self) {
        for (to, tag) in self.disks[1..].iter().zip(OLD..) {
            to.stamp(tag);
        }
    }

    /// Whether the very last sector has arrived everywhere.
    fn have_the_end(&self) -> bool {
        let last = Found::Stamp { tag: SOURCE, sector: SECTORS as u32 - 1 };
        self.disks[1..].iter().all(|to| crate::disk::found_in(&to.read(SECTORS - 8, 8)[7 * 512..]) == last)
    }

    /// Every destination's sectors, each of which is the source's or was there before.
    fn found(&self, whose: &str) -> Vec<Vec<Found>> {
        let destinations = self.disks[1..].iter().zip(OLD..);
        let all = destinations.map(|(to, old)| {
            let found = to.found();
            for (sector, found) in (0..).zip(&found) {
                let stamped = |tag| Found::Stamp { tag, sector };
                assert!(
                    [stamped(SOURCE), stamped(old)].contains(found),
                    "P8: {whose}, {}: {sector} {found:?}",
                    to.path.display()
                );
            }
            found
        });
        all.collect()
    }
}

fn p12_p17_the_kernels_verdict_is_ours(seed: u64) -> Figures {
    let table = Table::new(seed);
    let legs = Legs::new(&table);
    legs.stamp_destinations();
    let mirror = Mirror::start(&legs.paths(), SECTORS, table.region_sectors);
    let kernels = mirror.verdict(|| legs.have_the_end());
    drop(mirror);
    let kernels_bytes = legs.found("the kernel's");
    let mut failed = 0;
    for engine in ENGINES {
        legs.stamp_destinations();
        let (ours, complete) = our_verdict(&table, &legs, engine);
        let name = engine_name(engine);
        assert_eq!(ours, kernels, "ours on {name}, the kernel's; {table:?}");
        let bytes = legs.found(name);
        failed = complete.iter().filter(|&&complete| !complete).count() as u64;
        for region in (0..table.regions()).filter(|&region| complete[region as usize]) {
            let sectors = (region * table.region_sectors) as usize..((region + 1) * table.region_sectors) as usize;
            for (ours, kernels) in bytes.iter().zip(&kernels_bytes) {
                let is_new = |found: &Found| matches!(found, Found::Stamp { tag: SOURCE, .. });
                assert!(ours[sectors.clone()].iter().all(is_new), "P5: region {region} is complete; {table:?}");
                assert_eq!(ours[sectors.clone()], kernels[sectors.clone()], "region {region}; {table:?}");
            }
        }
    }
    Figures { regions: table.regions(), failed }
}

/// A sector that is bad for us alone is seen as a difference.
fn the_differential_can_fail() {
    let good = Table { seed: 0, block_bytes: 512, region_sectors: 1024, bad: vec![Vec::new(); 3] };
    let legs = Legs::new(&good);
    legs.stamp_destinations();
    let mirror = Mirror::start(&legs.paths(), SECTORS, good.region_sectors);
    let kernels = mirror.verdict(|| legs.have_the_end());
    drop(mirror);
    drop(legs);
    assert_eq!(kernels, Verdict { in_step: 4, health: "AAA".to_owned() });
    for (leg, health) in [(0, "SAA"), (1, "ASA"), (2, "AAS")] {
        let mut bad = Table { bad: vec![Vec::new(); 3], ..good };
        bad.bad[leg].push((1500, 1));
        let legs = Legs::new(&bad);
        let (ours, complete) = our_verdict(&bad, &legs, EngineChoice::Auto);
        assert_eq!(ours, Verdict { in_step: 3, health: health.to_owned() });
        assert_eq!(complete, [true, false, true, true]);
        assert_ne!(ours, kernels);
    }
}

/// A job for each region; the same as dm-mirror tells of itself, and which regions are complete.
fn our_verdict(table: &Table, legs: &Legs, engine: EngineChoice) -> (Verdict, Vec<bool>) {
    let paths = legs.paths();
    let source = open_source(&paths[0]);
    let destinations: Vec<_> = paths[1..].iter().map(|path| open_destination(path)).collect();
    let mut session = Session::new(engine);
    let (mut complete, mut bad_legs) = (Vec::new(), 0_u32);
    for region in 0..table.regions() {
        let at = region * table.region_sectors;
        let outcome = session.run(&Job::part(&source, &destinations, at, table.region_sectors, STOP));
        assert_eq!(outcome.is_success(), outcome.failures.is_empty(), "P17: {outcome:?}");
        complete.push(outcome.is_success());
        bad_legs |= u32::from(outcome.read_errno != 0) | outcome.write_errors << 1;
    }
    session.close();
    let health = (0..paths.len()).map(|leg| if bad_legs >> leg & 1 == 1 { 'S' } else { 'A' }).collect();
    let in_step = complete.iter().filter(|&&complete| complete).count() as u64;
    (Verdict { in_step, health }, complete)
}
