//! A connection between two processes that carries whole messages, and what comes through it and through pipes.

use std::{
    io::{self, PipeReader},
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    process::Stdio,
    time::Duration,
};

use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    io::Errno,
    net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, recv, send, socketpair},
    rand::{GetRandomFlags, getrandom},
};

/// One end of a connection.
pub(crate) struct Connection(OwnedFd);

impl Connection {
    /// The two ends of a new connection. No program that this process starts inherits them.
    pub(crate) fn pair() -> io::Result<(Self, Self)> {
        let (one, other) = socketpair(
            AddressFamily::UNIX,
            SocketType::SEQPACKET,
            SocketFlags::CLOEXEC,
            None,
        )?;
        Ok((Self(one), Self(other)))
    }

    pub(super) fn of(descriptor: OwnedFd) -> Self {
        Self(descriptor)
    }

    /// Sends a message. Raises no signal if the other end is gone.
    pub(crate) fn send(&self, message: &[u8]) -> io::Result<()> {
        send_to(&self.0, message)
    }

    /// Waits for a message, and returns its length; 0 if the other end is gone and has sent nothing more. What is
    /// longer than `buffer` is cut.
    ///
    /// # Errors
    /// Also if a signal interrupts it.
    pub(crate) fn receive(&self, buffer: &mut [u8]) -> io::Result<usize> {
        let received = match recv(&self.0, &mut *buffer, RecvFlags::empty()) {
            // The other end has gone without reading all that was sent to it. The system says so once, and before what
            // that end has sent (`sock_error` in `__skb_try_recv_datagram`, net/core/datagram.c).
            Err(Errno::CONNRESET) => recv(&self.0, buffer, RecvFlags::empty()),
            received => received,
        };
        let (length, _) = received?;
        Ok(length)
    }

    /// Waits at most `time` until this or the pipe has something to read or has lost its other end, and says of both
    /// whether they do. A signal may end it earlier.
    pub(crate) fn wait_readable(
        &self,
        pipe: Option<&PipeReader>,
        time: Duration,
    ) -> io::Result<Readable> {
        let time = Timespec::try_from(time).map_err(io::Error::other)?;
        let mut all = vec![PollFd::new(&self.0, PollFlags::IN)];
        all.extend(pipe.map(|it| PollFd::new(it, PollFlags::IN)));
        match poll(&mut all, Some(&time)) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
        let is_readable = |it: &PollFd<'_>| !it.revents().is_empty();
        Ok(Readable {
            connection: is_readable(&all[0]),
            pipe: all.get(1).is_some_and(is_readable),
        })
    }
}

impl From<Connection> for Stdio {
    fn from(connection: Connection) -> Self {
        connection.0.into()
    }
}

impl AsFd for Connection {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// What there is to read.
pub(crate) struct Readable {
    pub(crate) connection: bool,
    pub(crate) pipe: bool,
}

/// Sends a message by a connection that standard output leads to.
pub(crate) fn send_by_stdout(message: &[u8]) -> io::Result<()> {
    send_to(io::stdout(), message)
}

fn send_to(connection: impl AsFd, message: &[u8]) -> io::Result<()> {
    send(connection, message, SendFlags::NOSIGNAL)?;
    Ok(())
}

/// Fills a few bytes so that nobody can guess them.
pub(crate) fn fill_randomly(bytes: &mut [u8]) -> io::Result<()> {
    getrandom(bytes, GetRandomFlags::empty())?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_sent_is_received_when_the_other_end_has_gone_without_reading() {
        let (host, child) = Connection::pair().unwrap();
        host.send(b"read by nobody").unwrap();
        child.send(b"the last word").unwrap();
        drop(child);
        let mut buffer = [0; 64];
        let length = host.receive(&mut buffer).unwrap();
        assert_eq!(&buffer[..length], b"the last word");
        assert_eq!(host.receive(&mut buffer).unwrap(), 0);
    }
}
