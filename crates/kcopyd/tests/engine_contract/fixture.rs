//! What a test of the contract needs of an engine's world: devices with known bytes, and some that fail.

use std::ops::Range;
use std::sync::Arc;

use kcopyd::engine::Engine;
use kcopyd::engine::arena::Arena;

/// What an engine's steps name.
pub type DeviceOf<F> = <<F as Fixture>::Engine as Engine>::Device;

/// A device on which one operation fails.
pub struct Faulty<D> {
    /// The device.
    pub device: Arc<D>,
    /// What the operation fails with.
    pub errno: i32,
}

/// Makes engines and devices of one kind.
pub trait Fixture {
    /// The engine under test.
    type Engine: Engine;

    /// An empty world.
    fn new() -> Self;

    /// An engine on this memory.
    fn engine(&self, arena: Arc<Arena>) -> Self::Engine;

    /// A device to read and write that holds exactly these bytes, and can be read past its end.
    fn device(&self, bytes: &[u8]) -> Arc<DeviceOf<Self>>;

    /// A device that refuses every read.
    fn unreadable(&self, bytes: &[u8]) -> Faulty<DeviceOf<Self>>;

    /// A device that refuses every write.
    fn unwritable(&self, bytes: &[u8]) -> Faulty<DeviceOf<Self>>;

    /// A device whose flushes have begun to fail.
    fn unflushable(&self, bytes: &[u8]) -> Faulty<DeviceOf<Self>>;

    /// A device that takes writes up to a byte, a multiple of 4096, and fails from there on.
    fn full(&self) -> (Faulty<DeviceOf<Self>>, u64);

    /// What a device holds, as others see it.
    fn bytes(&self, device: &DeviceOf<Self>, range: Range<u64>) -> Vec<u8>;
}
