//! The least that a copy through a ring costs: a loop that reads a piece, then writes it to every destination, with registered
//! buffers and nothing around it: no jobs, no pool, no errors but panics. At the end every destination is flushed, which
//! counts. Prints a line of JSON.
//!
//! `cargo run --release --example bare_ring -- PIECE_KIB DEPTH ORDER SOURCE DESTINATION… [--pieces NUMBER] [--setup SETUP]`:
//! ORDER is `ascending`, or `scattered` for every piece once in an order that looks random. Without a number of pieces, it is
//! all of the source once. SETUP is how the ring is made: `deferred` (unless it is said), `plain`, or `polled` for a thread of
//! the kernel's that looks for requests, so that nobody has to enter it.

use std::os::fd::{AsRawFd, RawFd};
use std::path::Path;
use std::time::{Duration, Instant};
use std::{env, process};

use io_uring::types::{Fixed, FsyncFlags};
use io_uring::{IoUring, opcode};
use kcopyd::copy::chain::BufferStart;
use kcopyd::engine::arena::Arena;
use kcopyd::engine::device::{Access, Device, DeviceOptions};

mod places;

/// How long the kernel's thread looks for requests before it sleeps.
const POLLED_IDLE_MS: u32 = 100;

/// One piece on its way.
struct Slot {
    offset: u64,
    length: u32,
    writes_out: usize,
}

struct Loop {
    ring: IoUring,
    arena: Arena,
    slots: Vec<Slot>,
    piece: u32,
    /// Bytes of the source.
    total: u64,
    /// How many pieces are to be copied; more than there are begin again at the first.
    wanted: u64,
    /// How many pieces were begun.
    cursor: u64,
    order: Order,
    destinations: usize,
}

/// In which order the pieces of the source are read.
#[derive(Clone, Copy)]
enum Order {
    Ascending,
    Scattered,
}

/// What the command line asks for.
struct Plan {
    piece: u32,
    depth: u32,
    order: Order,
    paths: Vec<String>,
    pieces: Option<u64>,
    setup: String,
}

fn plan() -> Plan {
    let (mut words, mut pieces, mut setup) = (Vec::new(), None, "deferred".to_owned());
    let mut arguments = env::args().skip(1);
    while let Some(argument) = arguments.next() {
        match argument.as_str() {
            "--pieces" => pieces = arguments.next().map(|number| number.parse().expect("a number")),
            "--setup" => setup = arguments.next().expect("a setup"),
            _ => words.push(argument),
        }
    }
    let [piece_kib, depth, order, paths @ ..] = words.as_slice() else {
        eprintln!("PIECE_KIB DEPTH ORDER SOURCE DESTINATION… [--pieces NUMBER] [--setup SETUP]");
        process::exit(2);
    };
    let order = match order.as_str() {
        "ascending" => Order::Ascending,
        "scattered" => Order::Scattered,
        other => panic!("no order is called {other}"),
    };
    let number = |text: &String| text.parse::<u32>().expect("a number");
    Plan { piece: number(piece_kib) << 10, depth: number(depth), order, paths: paths.to_vec(), pieces, setup }
}

/// A ring with room for all requests at once. What is polled is entered only to wait, and the others also to submit.
fn ring(setup: &str) -> IoUring {
    let mut builder = IoUring::builder();
    match setup {
        "plain" => &mut builder,
        "deferred" => builder.setup_single_issuer().setup_defer_taskrun(),
        "polled" => builder.setup_single_issuer().setup_sqpoll(POLLED_IDLE_MS),
        other => panic!("no setup is called {other}"),
    };
    builder.build(1024).expect("a ring")
}

fn main() {
    let Plan { piece, depth, order, paths, pieces, setup } = plan();
    let open = |path: &String, access| {
        let options = DeviceOptions { access, ..DeviceOptions::default() };
        Device::open(Path::new(path), &options).expect("the device can be opened")
    };
    let source = open(&paths[0], Access::Read);
    let destinations: Vec<Device> = paths[1..].iter().map(|path| open(path, Access::Write)).collect();
    let arena = Arena::new((depth * piece).div_ceil(4096)).expect("memory");
    let ring = ring(&setup);
    let descriptor = |device: &Device| device.direct_descriptor().as_raw_fd();
    let files: Vec<RawFd> = [&source].into_iter().chain(&destinations).map(descriptor).collect();
    ring.submitter().register_files(&files).expect("files can be registered");
    let chunks: Vec<_> =
        arena.chunks().map(|(base, length)| libc::iovec { iov_base: base.cast(), iov_len: length }).collect();
    // SAFETY: the arena outlives the ring's last request, which is waited for.
    unsafe { ring.submitter().register_buffers(&chunks) }.expect("buffers can be registered");
    let slots = (0..depth).map(|_| Slot { offset: 0, length: 0, writes_out: 0 }).collect();
    let total = source.geometry().bytes;
    let wanted = pieces.unwrap_or_else(|| total.div_ceil(piece.into()));
    let mut work = Loop { ring, arena, slots, piece, total, wanted, cursor: 0, order, destinations: destinations.len() };
    let (begin, cpu) = (Instant::now(), processor_time());
    work.run();
    work.flush();
    let (took, cpu) = (begin.elapsed(), processor_time() - cpu);
    // The ring itself goes away some time after this process; the devices must be free for the next one at its end.
    work.ring.submitter().unregister_files().expect("files that are registered");
    let (seconds, cpu) = (took.as_secs_f64(), cpu.as_secs_f64());
    println!(r#"{{"seconds":{seconds:.6},"cpuSeconds":{cpu:.6},"pieces":{wanted}}}"#);
}

impl Loop {
    fn run(&mut self) {
        let mut out = 0;
        for slot in 0..self.slots.len() {
            out += self.begin(slot);
        }
        while out > 0 {
            self.ring.submit_and_wait(1).expect("the kernel takes it");
            let answers: Vec<(u64, i32)> =
                self.ring.completion().map(|answer| (answer.user_data(), answer.result())).collect();
            for (name, result) in answers {
                out -= 1;
                let (slot, is_read) = ((name >> 1) as usize, name & 1 == 0);
                assert_eq!(result, self.slots[slot].length as i32, "a request failed or came short");
                if is_read {
                    out += self.write(slot);
                    continue;
                }
                self.slots[slot].writes_out -= 1;
                if self.slots[slot].writes_out == 0 {
                    out += self.begin(slot);
                }
            }
        }
    }

    /// Reads the next piece, if there is one; how many requests were made.
    fn begin(&mut self, slot: usize) -> usize {
        if self.cursor == self.wanted {
            return 0;
        }
        let pieces = self.total.div_ceil(self.piece.into());
        let place = match self.order {
            Order::Ascending => self.cursor % pieces,
            Order::Scattered => places::place(self.cursor, pieces),
        };
        let offset = place * u64::from(self.piece);
        let length = (self.total - offset).min(self.piece.into()) as u32;
        self.slots[slot] = Slot { offset, length, writes_out: 0 };
        self.cursor += 1;
        let (memory, buffer) = self.memory(slot);
        let entry = opcode::ReadFixed::new(Fixed(0), memory, length, buffer).offset(self.slots[slot].offset).build();
        self.push(&entry.user_data((slot as u64) << 1));
        1
    }

    fn write(&mut self, slot: usize) -> usize {
        let (memory, buffer) = self.memory(slot);
        let Slot { offset, length, .. } = self.slots[slot];
        for file in 1..=self.destinations as u32 {
            let entry = opcode::WriteFixed::new(Fixed(file), memory, length, buffer).offset(offset).build();
            self.push(&entry.user_data((slot as u64) << 1 | 1));
        }
        self.slots[slot].writes_out = self.destinations;
        self.destinations
    }

    /// Makes every destination durable.
    fn flush(&mut self) {
        for file in 1..=self.destinations as u32 {
            self.push(&opcode::Fsync::new(Fixed(file)).flags(FsyncFlags::DATASYNC).build());
        }
        self.ring.submit_and_wait(self.destinations).expect("the kernel takes it");
        let answers = self.ring.completion().map(|answer| answer.result());
        assert!(answers.eq((0..self.destinations).map(|_| 0)), "a flush failed");
    }

    fn memory(&self, slot: usize) -> (*mut u8, u16) {
        let page = slot as u32 * (self.piece / 4096);
        let start = BufferStart { page, offset_bytes: 0 };
        (self.arena.pointer(start, self.piece), Arena::chunk_of(page) as u16)
    }

    fn push(&mut self, entry: &io_uring::squeue::Entry) {
        // SAFETY: the memory is the slot's alone until its requests are answered, and the files stay open.
        unsafe { self.ring.submission().push(entry) }.expect("there is room for every request");
    }
}

/// User and system time of this process so far.
fn processor_time() -> Duration {
    let clock = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    Duration::new(clock.tv_sec as u64, clock.tv_nsec as u32)
}
