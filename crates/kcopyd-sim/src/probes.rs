//! Requests on a small world, many of them wrong by a single sector: to be judged only. It refuses to know the judgement.

use kcopyd::copy::region::{DeviceKind, Geometry, Identity, Unaligned};
use kcopyd::copy::request::Endpoint;
use kcopyd::engine::simulated::Random;

use crate::scenario::Probe;

/// A request that follows from chance.
pub fn probe(random: &mut Random) -> Probe {
    let wild = random.one_in(40);
    let destinations = if wild { random.below(40) } else { 1 + random.below(3) };
    // Mostly all ends ask for whole blocks, so that refusals for other reasons are seen too.
    let grid = if random.one_in(2) { 8 } else { 1 };
    let count = grid * random.below(5);
    let source = (!random.one_in(6)).then(|| end(random, grid, count));
    let destinations = (0..destinations).map(|_| {
        let end = end(random, grid, count);
        let keep = source.is_none() || random.one_in(4);
        Endpoint { count: end.count.filter(|_| keep), ..end }
    });
    let destinations = destinations.collect();
    let source = source.map(|end| Endpoint { count: end.count.filter(|_| !random.one_in(4)), ..end });
    Probe { source, destinations }
}

/// One end on one of three disks, or of three files.
fn end(random: &mut Random, grid: u64, count: u64) -> Endpoint {
    let block = random.one_in(2);
    let odd = if random.one_in(8) { 1 } else { 0 };
    let wild = random.one_in(100);
    let logical_block_bytes = if random.one_in(3) { 4096 } else { 512 };
    let number = random.below(3);
    let identity = Identity {
        id: if block { (0, number) } else { (1 << 63, number) },
        // A partition of the disk.
        start_bytes: if block && random.one_in(4) { grid * random.below(6) * 512 } else { 0 },
    };
    let sectors = grid * (1 + random.below(12));
    let geometry = if block {
        Geometry {
            kind: DeviceKind::Block,
            identity,
            bytes: sectors * 512,
            logical_block_bytes,
            direct_alignment_bytes: logical_block_bytes,
            unaligned: Unaligned::Refused,
        }
    } else {
        let buffered = random.below(3);
        Geometry {
            kind: DeviceKind::File,
            identity,
            bytes: (sectors * 512).saturating_sub(random.below(4) * 100),
            logical_block_bytes: 512,
            direct_alignment_bytes: if buffered == 0 { 1 } else { 4096 },
            unaligned: if buffered == 2 { Unaligned::Refused } else { Unaligned::Buffered },
        }
    };
    let sector = if wild { random.below(1 << 54) } else { grid * random.below(10) + odd };
    let own = if random.one_in(20) { count + 1 } else { count };
    Endpoint { geometry, sector, count: Some(if random.one_in(200) { random.below(1 << 55) } else { own }) }
}
