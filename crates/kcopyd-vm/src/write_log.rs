//! Reads what dm-log-writes has written down: every write of a device in the order in which it became durable, its flushes, and the
//! marks that the cases set. It knows the log's format on disk (Documentation/admin-guide/device-mapper/log-writes.rst names its
//! parts) and nothing of jobs.

use crate::disk::{Found, SECTOR_BYTES, found_in};

const MAGIC: u64 = 0x006A_7366_7773_6872;
const FLUSH: u64 = 1;
const FUA: u64 = 2;
const DISCARD: u64 = 4;
const MARK: u64 = 8;

/// One entry of the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Entry {
    /// Sectors that were written, from this one on.
    Write {
        /// The first sector.
        sector: u64,
        /// What every sector became.
        found: Vec<Found>,
    },
    /// Everything before it is durable.
    Flush,
    /// What a case said.
    Mark(String),
}

fn number(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(bytes[at..at + 8].try_into().expect("eight bytes"))
}

/// The entries of a log that begins with its first sector.
pub fn entries(log: &[u8]) -> Vec<Entry> {
    assert_eq!((number(log, 0), number(log, 8)), (MAGIC, 1), "a log of dm-log-writes, version 1");
    let count = number(log, 16);
    let unit = u32::from_le_bytes(log[24..28].try_into().expect("four bytes")) as usize;
    let (mut entries, mut at) = (Vec::new(), unit);
    for _ in 0..count {
        let (sector, sectors, flags, length) =
            (number(log, at), number(log, at + 8), number(log, at + 16), number(log, at + 24) as usize);
        assert_eq!(flags & (FUA | DISCARD), 0, "kcopyd neither discards nor asks for FUA");
        if flags & MARK != 0 {
            entries.push(Entry::Mark(String::from_utf8_lossy(&log[at + 32..at + 32 + length]).into_owned()));
        }
        at += unit;
        let bytes = sectors as usize * unit;
        if bytes > 0 {
            let found = log[at..at + bytes].chunks_exact(SECTOR_BYTES).map(found_in).collect();
            entries.push(Entry::Write { sector: sector * (unit / SECTOR_BYTES) as u64, found });
        }
        if flags & FLUSH != 0 {
            entries.push(Entry::Flush);
        }
        at += bytes;
    }
    entries
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disk::stamps;

    fn header(words: [u64; 4]) -> Vec<u8> {
        let mut sector: Vec<u8> = words.iter().flat_map(|word| word.to_le_bytes()).collect();
        sector.resize(SECTOR_BYTES, 0);
        sector
    }

    #[test]
    fn a_log_is_read_in_its_order() {
        let mut log = header([MAGIC, 1, 3, 512]);
        log.extend(header([40, 2, 0, 0]));
        log.extend(stamps(9, 5, 2));
        log.extend(header([0, 0, FLUSH, 0]));
        let mut mark = header([0, 0, MARK, 4]);
        mark[32..36].copy_from_slice(b"job7");
        log.extend(mark);
        let found = vec![Found::Stamp { tag: 9, sector: 5 }, Found::Stamp { tag: 9, sector: 6 }];
        let expected = [Entry::Write { sector: 40, found }, Entry::Flush, Entry::Mark("job7".to_owned())];
        assert_eq!(entries(&log), expected);
    }
}
