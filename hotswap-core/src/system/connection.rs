//! A connection between two processes that carries whole messages, and what comes through it and through pipes.

use std::{
    io,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    time::Duration,
};

use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    io::Errno,
    net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, recv, send, socketpair},
    rand::{GetRandomFlags, getrandom},
};

/// The two ends of a new connection. No program that this process starts inherits them.
pub(crate) fn pair() -> io::Result<(OwnedFd, OwnedFd)> {
    Ok(socketpair(
        AddressFamily::UNIX,
        SocketType::SEQPACKET,
        SocketFlags::CLOEXEC,
        None,
    )?)
}

/// Sends a message. Raises no signal if the other end is gone.
pub(crate) fn send_message(connection: impl AsFd, message: &[u8]) -> io::Result<()> {
    send(connection, message, SendFlags::NOSIGNAL)?;
    Ok(())
}

/// Waits for a message, and returns its length; 0 if the other end is gone. What is longer than `buffer` is cut.
///
/// # Errors
/// Also if a signal interrupts it.
pub(crate) fn receive_message(connection: impl AsFd, buffer: &mut [u8]) -> io::Result<usize> {
    match recv(connection, buffer, RecvFlags::empty()) {
        Ok((length, _)) => Ok(length),
        Err(Errno::CONNRESET) => Ok(0),
        Err(error) => Err(error.into()),
    }
}

/// Waits at most `time` until one of these has something to read or has lost its other end, and says which do. A signal
/// may end it earlier.
pub(crate) fn wait_readable(all: &[BorrowedFd<'_>], time: Duration) -> io::Result<Vec<bool>> {
    let time = Timespec::try_from(time).map_err(io::Error::other)?;
    let mut all: Vec<_> = all
        .iter()
        .map(|it| PollFd::new(it, PollFlags::IN))
        .collect();
    match poll(&mut all, Some(&time)) {
        Ok(_) | Err(Errno::INTR) => {}
        Err(error) => return Err(error.into()),
    }
    Ok(all.iter().map(|it| !it.revents().is_empty()).collect())
}

/// Fills a few bytes so that nobody can guess them.
pub(crate) fn fill_randomly(bytes: &mut [u8]) -> io::Result<()> {
    getrandom(bytes, GetRandomFlags::empty())?;
    Ok(())
}
