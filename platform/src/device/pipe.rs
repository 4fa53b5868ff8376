//! A byte stream in memory: the socket of unit tests and simulations.

use core::cell::RefCell;
use core::pin::Pin;
use core::task::{Context, Poll, Waker};
use std::collections::VecDeque;
use std::io;
use std::rc::Rc;

use futures_io::{AsyncRead, AsyncWrite};

/// One end of a stream in memory. What one end writes the other reads, in order and without loss.
///
/// Dropping an end without closing it is a reset: the other end reads what was written before, then gets
/// [`io::ErrorKind::ConnectionReset`].
pub struct Pipe {
    incoming: Rc<RefCell<Channel>>,
    outgoing: Rc<RefCell<Channel>>,
}

/// One direction.
struct Channel {
    bytes: VecDeque<u8>,
    capacity: usize,
    /// The writer has closed: after the bytes comes the end.
    closed: bool,
    /// The writer is gone without having closed.
    reset: bool,
    /// The reader is gone: writing is in vain.
    reader_gone: bool,
    reader: Option<Waker>,
    writer: Option<Waker>,
}

impl Channel {
    fn new(capacity: usize) -> Rc<RefCell<Self>> {
        Rc::new(RefCell::new(Self {
            bytes: VecDeque::new(),
            capacity,
            closed: false,
            reset: false,
            reader_gone: false,
            reader: None,
            writer: None,
        }))
    }

    fn wake_reader(&mut self) {
        if let Some(waker) = self.reader.take() {
            waker.wake();
        }
    }

    fn wake_writer(&mut self) {
        if let Some(waker) = self.writer.take() {
            waker.wake();
        }
    }
}

impl Pipe {
    /// Two ends that are connected. Each direction holds at most `capacity` bytes that have not been read.
    ///
    /// # Panics
    /// With a capacity of zero: nothing would ever pass.
    #[must_use]
    pub fn pair(capacity: usize) -> (Self, Self) {
        assert!(capacity > 0, "a pipe without capacity");
        let (there, back) = (Channel::new(capacity), Channel::new(capacity));
        (
            Self { incoming: Rc::clone(&back), outgoing: Rc::clone(&there) },
            Self { incoming: there, outgoing: back },
        )
    }

    /// How many bytes this end has written that the other has not read.
    #[must_use]
    pub fn unread(&self) -> usize {
        self.outgoing.borrow().bytes.len()
    }
}

impl AsyncRead for Pipe {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut [u8],
    ) -> Poll<io::Result<usize>> {
        let mut channel = self.incoming.borrow_mut();
        if channel.bytes.is_empty() && !buffer.is_empty() {
            if channel.closed {
                return Poll::Ready(Ok(0));
            }
            if channel.reset {
                return Poll::Ready(Err(io::ErrorKind::ConnectionReset.into()));
            }
            channel.reader = Some(context.waker().clone());
            return Poll::Pending;
        }
        let length = io::Read::read(&mut channel.bytes, buffer)?;
        channel.wake_writer();
        Poll::Ready(Ok(length))
    }
}

impl AsyncWrite for Pipe {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let mut channel = self.outgoing.borrow_mut();
        if channel.reader_gone || channel.closed {
            return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
        }
        let room = channel.capacity - channel.bytes.len();
        if room == 0 && !bytes.is_empty() {
            channel.writer = Some(context.waker().clone());
            return Poll::Pending;
        }
        let length = room.min(bytes.len());
        channel.bytes.extend(&bytes[..length]);
        channel.wake_reader();
        Poll::Ready(Ok(length))
    }

    fn poll_flush(self: Pin<&mut Self>, _context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_close(self: Pin<&mut Self>, _context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut channel = self.outgoing.borrow_mut();
        channel.closed = true;
        channel.wake_reader();
        Poll::Ready(Ok(()))
    }
}

impl Drop for Pipe {
    fn drop(&mut self) {
        let mut outgoing = self.outgoing.borrow_mut();
        outgoing.reset = !outgoing.closed;
        outgoing.wake_reader();
        drop(outgoing);
        let mut incoming = self.incoming.borrow_mut();
        incoming.reader_gone = true;
        incoming.wake_writer();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::{AsyncReadExt, AsyncWriteExt, FutureExt};

    #[test]
    fn bytes_pass_in_order_within_the_capacity() {
        let (mut left, mut right) = Pipe::pair(4);
        assert_eq!(left.write(b"abcdef").now_or_never().unwrap().unwrap(), 4);
        assert!(left.write(b"ef").now_or_never().is_none());
        let mut bytes = [0; 3];
        right.read_exact(&mut bytes).now_or_never().unwrap().unwrap();
        assert_eq!(&bytes, b"abc");
        assert_eq!(left.write(b"ef").now_or_never().unwrap().unwrap(), 2);
        left.close().now_or_never().unwrap().unwrap();
        let mut rest = Vec::new();
        right.read_to_end(&mut rest).now_or_never().unwrap().unwrap();
        assert_eq!(rest, b"def");
    }

    #[test]
    fn an_end_dropped_open_resets_the_other() {
        let (mut left, mut right) = Pipe::pair(4);
        left.write_all(b"ab").now_or_never().unwrap().unwrap();
        drop(left);
        let mut bytes = Vec::new();
        let error = right.read_to_end(&mut bytes).now_or_never().unwrap().unwrap_err();
        assert_eq!((bytes.as_slice(), error.kind()), (&b"ab"[..], io::ErrorKind::ConnectionReset));
        let error = right.write(b"x").now_or_never().unwrap().unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::BrokenPipe);
    }
}
