//! The system calls of the process host, each behind a safe function.

use core::mem::MaybeUninit;
use core::time::Duration;
use std::ffi::CString;
use std::io;
use std::os::fd::RawFd;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use super::ProcessError;

fn path_string(path: &Path) -> Result<CString, ProcessError> {
    CString::new(path.as_os_str().as_bytes())
        .map_err(|_| ProcessError::new(format_args!("{}: a NUL byte in a path", path.display())))
}

/// Opens a file; `flags` are those of open(2), `O_CLOEXEC` is added.
pub(super) fn open(path: &Path, flags: i32) -> Result<RawFd, ProcessError> {
    let string = path_string(path)?;
    // SAFETY: a NUL-terminated path that outlives the call.
    let descriptor = unsafe { libc::open(string.as_ptr(), flags | libc::O_CLOEXEC) };
    if descriptor < 0 {
        return Err(ProcessError::system(path.display()));
    }
    Ok(descriptor)
}

/// Whether a descriptor can be read at any place: a pipe cannot.
pub(super) fn is_seekable(descriptor: RawFd) -> bool {
    // SAFETY: numbers only; the place of a file that is read by its offsets is nobody's concern.
    unsafe { libc::lseek(descriptor, 0, libc::SEEK_CUR) >= 0 }
}

pub(super) fn close(descriptor: RawFd) {
    // SAFETY: closing a number; whoever calls this owns it.
    unsafe { libc::close(descriptor) };
}

fn check(result: isize) -> io::Result<usize> {
    usize::try_from(result).map_err(|_| io::Error::last_os_error())
}

pub(super) fn read(descriptor: RawFd, buffer: &mut [u8]) -> io::Result<usize> {
    read_two(descriptor, buffer, &mut [])
}

/// Reads into `first`, and what does not fit there into `second`.
pub(super) fn read_two(descriptor: RawFd, first: &mut [u8], second: &mut [u8]) -> io::Result<usize> {
    let vectors =
        [first, second].map(|part| libc::iovec { iov_base: part.as_mut_ptr().cast(), iov_len: part.len() });
    // SAFETY: both parts are valid for writes of their lengths.
    check(unsafe { libc::readv(descriptor, vectors.as_ptr(), vectors.len() as i32) })
}

pub(super) fn write(descriptor: RawFd, bytes: &[u8]) -> io::Result<usize> {
    // SAFETY: the bytes are valid for reads of their length.
    check(unsafe { libc::write(descriptor, bytes.as_ptr().cast(), bytes.len()) })
}

pub(super) fn read_at(descriptor: RawFd, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
    // SAFETY: the buffer is valid for writes of its length.
    check(unsafe { libc::pread(descriptor, buffer.as_mut_ptr().cast(), buffer.len(), offset.cast_signed()) })
}

pub(super) fn write_at(descriptor: RawFd, bytes: &[u8], offset: u64) -> io::Result<usize> {
    // SAFETY: the bytes are valid for reads of their length.
    check(unsafe { libc::pwrite(descriptor, bytes.as_ptr().cast(), bytes.len(), offset.cast_signed()) })
}

/// Whether an error only means "not now".
pub(super) fn would_block(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted)
}

/// Sleeps until a descriptor is ready or `timeout` has passed.
pub(super) fn poll(descriptors: &mut [libc::pollfd], timeout: Option<Duration>) {
    let timeout = timeout.map(|timeout| libc::timespec {
        tv_sec: i64::try_from(timeout.as_secs()).unwrap_or(i64::MAX),
        tv_nsec: i64::from(timeout.subsec_nanos()),
    });
    let pointer = timeout.as_ref().map_or(core::ptr::null(), core::ptr::from_ref);
    // SAFETY: array and timeout are valid for the call; no signal mask is given. An error (EINTR) leaves `revents` as
    // zero, as the caller set it.
    unsafe {
        libc::ppoll(descriptors.as_mut_ptr(), descriptors.len() as libc::nfds_t, pointer, core::ptr::null())
    };
}

/// Blocks SIGTERM, SIGINT and SIGHUP and returns a descriptor to read them from.
pub(super) fn signal_descriptor() -> Result<RawFd, ProcessError> {
    let mut set = MaybeUninit::uninit();
    // SAFETY: sigemptyset initialises the set before anything reads it.
    let descriptor = unsafe {
        libc::sigemptyset(set.as_mut_ptr());
        for signal in [libc::SIGTERM, libc::SIGINT, libc::SIGHUP] {
            libc::sigaddset(set.as_mut_ptr(), signal);
        }
        libc::sigprocmask(libc::SIG_BLOCK, set.as_ptr(), core::ptr::null_mut());
        libc::signalfd(-1, set.as_ptr(), libc::SFD_NONBLOCK | libc::SFD_CLOEXEC)
    };
    if descriptor < 0 {
        return Err(ProcessError::system("signals"));
    }
    Ok(descriptor)
}

/// Takes a signal off its descriptor: one of those that [`signal_descriptor`] was made for.
pub(super) fn take_signal(descriptor: RawFd) -> Option<i32> {
    let mut info = [0; size_of::<libc::signalfd_siginfo>()];
    let length = read(descriptor, &mut info).ok()?;
    let number = info[..length].first_chunk()?;
    Some(u32::from_ne_bytes(*number).cast_signed())
}

/// Connects to a Unix stream socket.
pub(super) fn connect_unix(path: &Path) -> Result<RawFd, ProcessError> {
    let bytes = path.as_os_str().as_bytes();
    let mut address =
        libc::sockaddr_un { sun_family: libc::AF_UNIX as libc::sa_family_t, sun_path: [0; 108] };
    if bytes.is_empty() || bytes.len() >= address.sun_path.len() || bytes.contains(&0) {
        return Err(ProcessError::new(format_args!(
            "{}: the path of a Unix socket has 1 to {} bytes",
            path.display(),
            address.sun_path.len() - 1
        )));
    }
    for (to, from) in address.sun_path.iter_mut().zip(bytes) {
        *to = *from as libc::c_char;
    }
    // SAFETY: the address is a whole sockaddr_un and outlives the call.
    let (descriptor, result) = unsafe {
        let descriptor = libc::socket(libc::AF_UNIX, libc::SOCK_STREAM | libc::SOCK_CLOEXEC, 0);
        let length = size_of::<libc::sockaddr_un>() as libc::socklen_t;
        (descriptor, libc::connect(descriptor, (&raw const address).cast(), length))
    };
    if descriptor < 0 || result < 0 {
        return Err(ProcessError::system(format_args!("connecting to {}", path.display())));
    }
    Ok(descriptor)
}

/// Makes a descriptor non-blocking.
pub(super) fn set_nonblocking(descriptor: RawFd) -> Result<(), ProcessError> {
    // SAFETY: fcntl on a descriptor; no pointers.
    let result = unsafe {
        let flags = libc::fcntl(descriptor, libc::F_GETFL);
        libc::fcntl(descriptor, libc::F_SETFL, flags | libc::O_NONBLOCK)
    };
    if result < 0 { Err(ProcessError::system("fcntl")) } else { Ok(()) }
}

/// Size of a file or block device in bytes.
pub(super) fn size(descriptor: RawFd) -> Result<u64, ProcessError> {
    // SAFETY: lseek moves a file position that nothing uses: transfers name their offsets.
    let end = unsafe { libc::lseek(descriptor, 0, libc::SEEK_END) };
    u64::try_from(end).map_err(|_| ProcessError::system("size of the disk"))
}

/// Makes sure that no other image has this file open: two would destroy it.
pub(super) fn lock_exclusively(descriptor: RawFd, path: &Path) -> Result<(), ProcessError> {
    // SAFETY: flock on a descriptor; no pointers.
    if unsafe { libc::flock(descriptor, libc::LOCK_EX | libc::LOCK_NB) } < 0 {
        return Err(ProcessError::new(format_args!(
            "{}: in use by another process; stop that one first",
            path.display()
        )));
    }
    Ok(())
}

/// Makes data written to a file durable.
pub(super) fn flush(descriptor: RawFd) -> io::Result<()> {
    // SAFETY: fdatasync on a descriptor; no pointers.
    if unsafe { libc::fdatasync(descriptor) } < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// A pair of connected sockets.
pub(super) fn socket_pair() -> Result<(RawFd, RawFd), ProcessError> {
    let mut pair = [0; 2];
    // SAFETY: an array of two descriptors to write.
    let result = unsafe {
        libc::socketpair(libc::AF_UNIX, libc::SOCK_STREAM | libc::SOCK_CLOEXEC, 0, pair.as_mut_ptr())
    };
    if result < 0 { Err(ProcessError::system("socket pair")) } else { Ok((pair[0], pair[1])) }
}

/// Forks. Returns `true` in the parent; the child ends when the parent does, and ignores the terminal's signals.
pub(super) fn fork() -> Result<bool, ProcessError> {
    // SAFETY: the process has one thread, so the child is a whole copy of it; and none of the locks and streams are in use
    // that glibc's `fork` looks after.
    match unsafe { libc::syscall(libc::SYS_fork) } {
        0 => {
            // SAFETY: no pointers; the signal handlers set are to ignore.
            unsafe {
                libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL);
                for signal in [libc::SIGTERM, libc::SIGINT, libc::SIGHUP] {
                    libc::signal(signal, libc::SIG_IGN);
                }
            }
            Ok(false)
        }
        child if child > 0 => Ok(true),
        _ => Err(ProcessError::system("fork")),
    }
}

/// Closes every descriptor but standard error and those in `keep`.
pub(super) fn close_all_but(keep: &[RawFd]) {
    let mut keep: Vec<u32> = keep
        .iter()
        .chain(&[libc::STDERR_FILENO])
        .filter_map(|descriptor| u32::try_from(*descriptor).ok())
        .collect();
    keep.sort_unstable();
    let mut from = 0;
    for descriptor in keep {
        if from < descriptor {
            // SAFETY: closes descriptors that nothing uses any more.
            unsafe { libc::syscall(libc::SYS_close_range, from, descriptor - 1, 0) };
        }
        from = descriptor + 1;
    }
    // SAFETY: as above.
    unsafe { libc::syscall(libc::SYS_close_range, from, u32::MAX, 0) };
}

/// No new privileges, no core dump with secrets in it, no tracing by others.
pub(super) fn give_up_privileges() -> Result<(), ProcessError> {
    // SAFETY: prctl with numbers only.
    let result = unsafe {
        libc::prctl(libc::PR_SET_DUMPABLE, 0, 0, 0, 0);
        libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    };
    if result < 0 { Err(ProcessError::system("no new privileges")) } else { Ok(()) }
}

/// Maps `size` bytes of fresh memory, in huge pages where the kernel has them: of thousands of connections each lies on
/// pages of its own, and looking those up costs more than the work.
pub(super) fn map(size: usize) -> Result<*mut u8, ProcessError> {
    let (protection, flags) =
        (libc::PROT_READ | libc::PROT_WRITE, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE);
    // SAFETY: a new anonymous mapping where the kernel likes; it touches nothing that exists.
    let base = unsafe { libc::mmap(core::ptr::null_mut(), size, protection, flags, -1, 0) };
    if base == libc::MAP_FAILED {
        return Err(ProcessError::system(format_args!("memory of {} MiB", size >> 20)));
    }
    // A kernel without huge pages refuses, which changes nothing but the speed.
    // SAFETY: the advice is for the mapping just made, and does not change what is in it.
    unsafe { libc::madvise(base, size, libc::MADV_HUGEPAGE) };
    Ok(base.cast())
}

/// Ends the process at once.
pub(super) fn exit(status: i32) -> ! {
    // SAFETY: does not return.
    unsafe { libc::_exit(status) }
}
