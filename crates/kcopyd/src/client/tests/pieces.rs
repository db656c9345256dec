//! How many pieces a job may have under way, by what its destinations are.

use std::fs;

use super::*;
use crate::engine::device::{Access, DeviceOptions};

const BYTES: usize = 8192;

/// The most pieces of a job of `BYTES` from its second page on to files of these lengths.
fn pieces_max(lengths: &[usize]) -> u32 {
    let folder = tempfile::tempdir().unwrap();
    let region = |name: String, length: usize, access| {
        let path = folder.path().join(name);
        fs::write(&path, vec![0; length]).unwrap();
        let device = Device::open(&path, &DeviceOptions { access, ..DeviceOptions::default() }).unwrap();
        RegionRequest { device: Arc::new(device), sector: 8, count: Some(BYTES as u64 / SECTOR_BYTES) }
    };
    let to = lengths.iter().enumerate().map(|(index, &length)| region(index.to_string(), length, Access::Write));
    let request = JobRequest {
        token: 1,
        source: Some(region("source".into(), 1 << 16, Access::Read)),
        destinations: to.collect(),
        flags: JobFlags::default(),
        progress: None,
    };
    within_queues(checked_plan(&request).unwrap(), &request).pieces_max
}

#[test]
fn a_job_that_makes_a_file_longer_has_fewer_pieces_under_way() {
    // As many as the queue beneath allows.
    let usual = pieces_max(&[4096 + BYTES]);
    for grows in [[0].as_slice(), &[4096], &[4096 + BYTES - 1], &[1 << 16, 0, 1 << 16]] {
        assert_eq!(pieces_max(grows), usual.min(GROWING_FILE_SUB_JOBS), "to files of {grows:?} bytes");
    }
    assert_eq!(pieces_max(&[1 << 16, 1 << 16]), usual);
}
