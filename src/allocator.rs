//! How the allocator of the C library is to work.
//!
//! By default glibc gives every thread a heap of its own and hands freed buffers back to the kernel one by one. With
//! buffers of megabytes that wander from thread to thread this holds a third more memory than is in use and spends
//! more time in page faults than in restoring: measured on a restore of 5 GiB, 322 MiB and 15 s of system time
//! against 234 MiB and 5 s with two heaps. (jemalloc and mimalloc were tried and did no better.)

/// Lets all threads share two heaps. To be called before the first thread is started.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
pub(crate) fn share_heaps() {
    #[expect(unsafe_code, reason = "the C library has no other door to this setting")]
    // SAFETY: mallopt only sets a number inside the allocator; no other thread runs yet.
    unsafe {
        libc::mallopt(libc::M_ARENA_MAX, 2);
    }
}

/// Other C libraries have no such setting.
#[cfg(not(all(target_os = "linux", target_env = "gnu")))]
pub(crate) fn share_heaps() {}
