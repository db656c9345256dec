//! A kernel that does not let us.

use std::io;
use std::os::unix::process::CommandExt;
use std::process::Command;

use super::*;
use crate::error::ErrorKind;

const SETUP: u32 = 425;
const ENTER: u32 = 426;
const REGISTER: u32 = 427;

/// Runs something on a thread of its own on which a system call fails with an errno, as under a container's filter.
fn where_refused<R: Send>(call: u32, errno: i32, run: impl FnOnce() -> R + Send) -> R {
    std::thread::scope(|scope| {
        let thread = scope.spawn(|| {
            refuse(call, errno);
            run()
        });
        thread.join().unwrap()
    })
}

fn refuse(call: u32, errno: i32) {
    let instruction = |code, k, on_true, on_false| libc::sock_filter { code, jt: on_true, jf: on_false, k };
    let load_number = (libc::BPF_LD | libc::BPF_W | libc::BPF_ABS) as u16;
    let jump_if_equal = (libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K) as u16;
    let answer = (libc::BPF_RET | libc::BPF_K) as u16;
    let mut filter = [
        instruction(load_number, 0, 0, 0),
        instruction(jump_if_equal, call, 0, 1),
        instruction(answer, libc::SECCOMP_RET_ERRNO | errno as u32, 0, 0),
        instruction(answer, libc::SECCOMP_RET_ALLOW, 0, 0),
    ];
    let program = libc::sock_fprog { len: 4, filter: filter.as_mut_ptr() };
    // SAFETY: both calls concern this thread alone, and the program lives until the second has returned.
    unsafe {
        assert_eq!(libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), 0);
        assert_eq!(libc::prctl(libc::PR_SET_SECCOMP, libc::SECCOMP_MODE_FILTER, &raw const program), 0);
    }
}

#[test]
fn p26_a_refused_system_call_makes_the_engine_unavailable_and_says_why() {
    for (call, name) in [(SETUP, "io_uring_setup"), (ENTER, "io_uring_enter"), (REGISTER, "io_uring_register")] {
        for (errno, word) in [(libc::EPERM, "seccomp"), (libc::ENOSYS, "older than 5.1"), (libc::EACCES, "seccomp")] {
            let refused =
                where_refused(call, errno, || Uring::new(Arc::new(Arena::new(1).unwrap()), &UringOptions::default()).err());
            let error = refused.expect("the engine needs this call");
            assert_eq!((error.kind, error.errno, error.syscall), (ErrorKind::EngineUnavailable, Some(errno), Some(name)));
            assert!(error.context.contains(word), "{error}");
        }
    }
}

#[test]
fn p26_flags_that_no_kernel_knows_end_on_the_lowest_rung_and_then_in_a_refusal() {
    let refused =
        where_refused(SETUP, libc::EINVAL, || Uring::new(Arc::new(Arena::new(1).unwrap()), &UringOptions::default()).err());
    assert_eq!(refused.map(|error| (error.kind, error.errno)), Some((ErrorKind::EngineUnavailable, Some(libc::EINVAL))));
}

/// The limit holds for a whole process, and whoever may lock memory is not bound by it: so a process of its own, in which
/// this very test is run again.
const CHILD: &str = "KCOPYD_TEST_MEMLOCK_CHILD";

fn describe_with_memlock(bytes: u64) -> String {
    let mut child = Command::new(std::env::current_exe().unwrap());
    child.args(["--exact", "engine::uring::tests::refusals::p26_a_low_limit_on_locked_memory_costs_only_what_it_must"]);
    child.args(["--nocapture"]).env(CHILD, "1");
    // SAFETY: between fork and exec only system calls are made. That dropping the capability fails means not having it.
    unsafe {
        child.pre_exec(move || {
            const CAP_IPC_LOCK: libc::c_ulong = 14;
            libc::prctl(libc::PR_CAPBSET_DROP, CAP_IPC_LOCK, 0, 0, 0);
            let limit = libc::rlimit { rlim_cur: bytes, rlim_max: bytes };
            if libc::setrlimit(libc::RLIMIT_MEMLOCK, &raw const limit) == 0 {
                Ok(())
            } else {
                Err(io::Error::last_os_error())
            }
        });
    }
    let output = child.output().unwrap();
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn p26_a_low_limit_on_locked_memory_costs_only_what_it_must() {
    if std::env::var_os(CHILD).is_some() {
        let mut bench = Bench::new(options(Chains::Linked));
        let source = bench.file("source", &pattern(4096, 1), Access::Read);
        let destination = bench.file("destination", &[], Access::Write);
        bench.stage(1, &[read(source, 0, 4096, 0), write(destination, 0, 4096, 0)]);
        assert_eq!(bench.results(2), [StepResult::Done(4096); 2]);
        println!("{:?} {:?}", bench.engine.description(), bench.engine.counters());
        return;
    }
    let little = describe_with_memlock(256 << 10);
    assert!(little.contains("registered_buffers: false") && little.contains("read: 1"), "{little}");
    assert!(little.contains("RLIMIT_MEMLOCK is too low for the pool"), "{little}");
}
