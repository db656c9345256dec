//! Devices as JavaScript sees them, and the registry that makes a handle out of one: one registry per environment, so a
//! submit looks a handle up without a lock. It refuses to know clients' jobs and how a device is opened.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::ffi::{OsString, c_void};
use std::os::unix::ffi::OsStringExt;
use std::panic::catch_unwind;
use std::path::PathBuf;
use std::ptr;
use std::sync::{Arc, mpsc};
use std::thread;

use kcopyd::copy::region::DeviceKind;
use kcopyd::engine::device::{Device, DeviceOptions};
use kcopyd::error::{Error, ErrorKind};
use napi::bindgen_prelude::{AsyncTask, Either, PromiseRaw, Uint8ArraySlice};
use napi::{Env, Task, sys};
use napi_derive::napi;

use crate::closing::{self, Closed};
use crate::data::{NativeAccess, NativeDeviceOptions, NativeError, guarded};
use crate::teardown::{self, alive_with_id};

/// A device that jobs may name, and the clients that have heard of it.
struct Entry {
    device: Arc<Device>,
    clients: Vec<u64>,
}

thread_local! {
    static DEVICES: RefCell<HashMap<u64, Entry>> = RefCell::default();
    /// Whether the end of this environment will close what is open then.
    static IS_WATCHED: Cell<bool> = const { Cell::new(false) };
}

/// The device with a handle, for a client that is about to use it.
pub fn find(handle: u64, client: u64) -> Option<Arc<Device>> {
    DEVICES.with_borrow_mut(|devices| {
        let entry = devices.get_mut(&handle)?;
        if !entry.clients.contains(&client) {
            // A device may be open for as long as the process lives, and clients come and go.
            entry.clients.retain(|&known| alive_with_id(known).is_some());
            entry.clients.push(client);
        }
        Some(Arc::clone(&entry.device))
    })
}

/// A device, opened.
#[napi]
pub struct NativeDevice {
    handle: u64,
    kind: DeviceKind,
    logical_block_bytes: u32,
    physical_block_bytes: u32,
    direct: bool,
    direct_reason: String,
    bytes_seen_last: Cell<u64>,
}

impl NativeDevice {
    fn register(env: Env, device: Device) -> Self {
        watch(env);
        let geometry = device.geometry();
        let native = NativeDevice {
            handle: device.id(),
            kind: geometry.kind,
            logical_block_bytes: geometry.logical_block_bytes,
            physical_block_bytes: device.physical_block_bytes(),
            direct: device.direct(),
            direct_reason: device.direct_reason().to_owned(),
            bytes_seen_last: Cell::new(geometry.bytes),
        };
        let entry = Entry { device: Arc::new(device), clients: Vec::new() };
        DEVICES.with_borrow_mut(|devices| devices.insert(native.handle, entry));
        native
    }
}

#[napi]
impl NativeDevice {
    /// Names the device in jobs.
    #[napi(getter, catch_unwind)]
    pub fn handle(&self) -> f64 {
        self.handle as f64
    }

    /// `block` or `file`.
    #[napi(getter, catch_unwind)]
    pub fn kind(&self) -> &'static str {
        match self.kind {
            DeviceKind::Block => "block",
            DeviceKind::File => "file",
        }
    }

    /// The unit of direct transfers, in bytes.
    #[napi(getter, catch_unwind)]
    pub fn logical_block_size(&self) -> u32 {
        self.logical_block_bytes
    }

    /// The unit of the medium, in bytes.
    #[napi(getter, catch_unwind)]
    pub fn physical_block_size(&self) -> u32 {
        self.physical_block_bytes
    }

    /// Whether transfers go past the page cache.
    #[napi(getter, catch_unwind)]
    pub fn direct(&self) -> bool {
        self.direct
    }

    /// Why they do or do not.
    #[napi(getter, catch_unwind)]
    pub fn direct_reason(&self) -> String {
        self.direct_reason.clone()
    }

    /// The size now, in bytes; of a closed device, the size known last.
    #[napi(catch_unwind)]
    pub fn bytes(&self) -> f64 {
        DEVICES.with_borrow(|devices| {
            if let Some(entry) = devices.get(&self.handle) {
                self.bytes_seen_last.set(entry.device.refresh().bytes);
            }
        });
        self.bytes_seen_last.get() as f64
    }
}

impl Drop for NativeDevice {
    /// Collected: nobody can name the device any more. If it was not closed, that is done now, without waiting.
    fn drop(&mut self) {
        let entry = DEVICES.try_with(|devices| devices.borrow_mut().remove(&self.handle));
        let Ok(Some(Entry { device, clients })) = entry else { return };
        for client in clients.into_iter().filter_map(alive_with_id) {
            let device = Arc::clone(&device);
            if let Some(core) = &*client.core() {
                core.release(&Arc::clone(&device), Box::new(move || drop_elsewhere(device)));
            }
        }
        drop_elsewhere(device);
    }
}

/// The last close of a block device may wait for its page cache to be written: neither the event loop nor a client's thread
/// does that. Where no thread can be had it happens here after all, because the closure is dropped.
fn drop_elsewhere(device: Arc<Device>) {
    elsewhere(move || drop(device));
}

fn elsewhere(close: impl FnOnce() + Send + 'static) {
    drop(thread::Builder::new().name("kcopyd-close".to_owned()).spawn(close));
}

/// Has what is open at the end of the environment closed then. Without it the descriptors are closed all the same, but
/// some time after a worker was terminated, and who opens a device again meanwhile would find it in use.
fn watch(env: Env) {
    if !IS_WATCHED.replace(true) {
        // SAFETY: this is the thread of `env`; the hook takes no argument and touches thread-locals alone.
        // A refusal only means that descriptors are closed later, when their objects are finalised.
        let _ = unsafe { sys::napi_add_env_cleanup_hook(env.raw(), Some(close_all), ptr::null_mut()) };
    }
}

/// The environment ends. Closing may take long, so it is not waited for longer than for clients.
unsafe extern "C" fn close_all(_: *mut c_void) {
    // Unwinding into Node would abort the process, and there is nobody to tell.
    let _ = catch_unwind(|| {
        IS_WATCHED.set(false);
        let patience = teardown::patience();
        let (say, said) = mpsc::channel::<()>();
        for (_, Entry { device, .. }) in DEVICES.take() {
            let say = say.clone();
            elsewhere(move || drop((device, say)));
        }
        drop(say);
        // Nothing is ever said: it ends when the last closing has dropped its end, or when the time is over.
        let _ = said.recv_timeout(patience);
    });
}

/// Opens a device where that may block.
pub struct OpenTask {
    path: PathBuf,
    options: DeviceOptions,
}

impl Task for OpenTask {
    type Output = Result<Device, Error>;
    type JsValue = Either<NativeDevice, NativeError>;

    fn compute(&mut self) -> napi::Result<Self::Output> {
        Ok(guarded(|| Device::open(&self.path, &self.options)))
    }

    fn resolve(&mut self, env: Env, output: Self::Output) -> napi::Result<Self::JsValue> {
        Ok(registered(env, output))
    }
}

fn registered(env: Env, device: Result<Device, Error>) -> Either<NativeDevice, NativeError> {
    match device {
        Ok(device) => Either::A(NativeDevice::register(env, device)),
        Err(error) => Either::B(error.into()),
    }
}

/// Opens the device at a path, on libuv's pool.
#[napi(catch_unwind)]
pub fn open_device(path: Uint8ArraySlice<'_>, options: NativeDeviceOptions) -> AsyncTask<OpenTask> {
    let path = PathBuf::from(OsString::from_vec(path.to_vec()));
    AsyncTask::new(OpenTask { path, options: options.into() })
}

/// A device on a duplicate of a descriptor.
#[napi(catch_unwind)]
pub fn adopt_descriptor(env: Env, fd: i32, access: NativeAccess) -> Either<NativeDevice, NativeError> {
    registered(env, Device::adopt(fd, access.into()))
}

/// Closes a device: no new jobs from now on; resolves when the clients have forgotten it and its descriptors are closed.
#[napi(catch_unwind)]
pub fn close_device<'env>(env: &'env Env, device: &NativeDevice) -> napi::Result<PromiseRaw<'env, Closed>> {
    match DEVICES.with_borrow_mut(|devices| devices.remove(&device.handle)) {
        Some(Entry { device: core, clients }) => {
            device.bytes_seen_last.set(core.glance().bytes);
            let clients: Vec<_> = clients.into_iter().filter_map(alive_with_id).collect();
            closing::close(env, core, &clients)
        }
        None => PromiseRaw::resolve(env, Some(NativeError::from(device_closed("the device is closed already")))),
    }
}

/// The refusal of a handle that names nothing.
pub fn device_closed(context: impl Into<String>) -> Error {
    Error::new(ErrorKind::DeviceClosed, context)
}
