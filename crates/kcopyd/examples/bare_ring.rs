//! The least that a copy through a ring costs: a loop that reads a piece, then writes it to every destination, with registered
//! buffers and nothing around it: no jobs, no pool, no errors but panics. Prints a line of JSON.
//!
//! `cargo run --release --example bare_ring -- PIECE_KIB DEPTH ORDER SOURCE DESTINATION…`: ORDER is `ascending`, or `scattered`
//! for every piece once in an order that looks random.

use std::os::fd::{AsRawFd, RawFd};
use std::path::Path;
use std::time::{Duration, Instant};
use std::{env, process};

use io_uring::types::Fixed;
use io_uring::{IoUring, opcode};
use kcopyd::copy::chain::BufferStart;
use kcopyd::engine::arena::Arena;
use kcopyd::engine::device::{Access, Device, DeviceOptions};

mod places;

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
    total: u64,
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

fn main() {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let [piece_kib, depth, order, source, destinations @ ..] = arguments.as_slice() else {
        eprintln!("PIECE_KIB DEPTH ORDER SOURCE DESTINATION…");
        process::exit(2);
    };
    let order = match order.as_str() {
        "ascending" => Order::Ascending,
        "scattered" => Order::Scattered,
        other => panic!("no order is called {other}"),
    };
    let piece = piece_kib.parse::<u32>().expect("a number") << 10;
    let depth = depth.parse::<u32>().expect("a number");
    let open = |path: &String, access| {
        let options = DeviceOptions { access, ..DeviceOptions::default() };
        Device::open(Path::new(path), &options).expect("the device can be opened")
    };
    let source = open(source, Access::Read);
    let destinations: Vec<Device> = destinations.iter().map(|path| open(path, Access::Write)).collect();
    let arena = Arena::new((depth * piece).div_ceil(4096)).expect("memory");
    let ring = IoUring::builder().setup_single_issuer().setup_defer_taskrun().build(1024).expect("a ring");
    let descriptor = |device: &Device| device.direct_descriptor().as_raw_fd();
    let files: Vec<RawFd> = [&source].into_iter().chain(&destinations).map(descriptor).collect();
    ring.submitter().register_files(&files).expect("files can be registered");
    let chunks: Vec<_> =
        arena.chunks().map(|(base, length)| libc::iovec { iov_base: base.cast(), iov_len: length }).collect();
    // SAFETY: the arena outlives the ring's last request, which is waited for.
    unsafe { ring.submitter().register_buffers(&chunks) }.expect("buffers can be registered");
    let slots = (0..depth).map(|_| Slot { offset: 0, length: 0, writes_out: 0 }).collect();
    let total = source.geometry().bytes;
    let mut work = Loop { ring, arena, slots, piece, total, cursor: 0, order, destinations: destinations.len() };
    let (begin, cpu) = (Instant::now(), processor_time());
    work.run();
    let (took, cpu) = (begin.elapsed(), processor_time() - cpu);
    println!(r#"{{"seconds":{:.6},"cpuSeconds":{:.6},"bytes":{total}}}"#, took.as_secs_f64(), cpu.as_secs_f64());
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
        let pieces = self.total.div_ceil(self.piece.into());
        if self.cursor == pieces {
            return 0;
        }
        let place = match self.order {
            Order::Ascending => self.cursor,
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
