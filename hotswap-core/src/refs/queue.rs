//! A queue of plain data, in the host's memory. When a service must stop, waiting ends even if the queue is not
//! empty.

use std::mem::MaybeUninit;

use crossbeam_channel::{Receiver, Sender, bounded, select_biased};
use hotswap_sdk::{
    Stop,
    host::{Bytes, RawChannel},
};

use super::{shape::Shape, token::Token};

pub(super) struct Queue {
    element: Shape,
    sender: Sender<Box<Bytes>>,
    receiver: Receiver<Box<Bytes>>,
}

impl Queue {
    /// Creates a queue for values of this plain type. Allocates room for all `capacity` values.
    pub(super) fn new(element: Shape, capacity: usize) -> Self {
        let (sender, receiver) = bounded(capacity);
        Self {
            element,
            sender,
            receiver,
        }
    }

    pub(super) fn element(&self) -> &Shape {
        &self.element
    }

    pub(super) fn len(&self) -> usize {
        self.receiver.len()
    }
}

impl RawChannel for Queue {
    fn send(&self, value: &Bytes, stop: &Stop) -> bool {
        select_biased! {
            recv(Token::of(stop).ready_when_set()) -> _ => false,
            send(self.sender, value.into()) -> sent => sent.is_ok(),
        }
    }

    fn receive(&self, value: &mut [MaybeUninit<u8>], stop: &Stop) -> bool {
        select_biased! {
            recv(Token::of(stop).ready_when_set()) -> _ => false,
            recv(self.receiver) -> received => {
                let received = received.ok();
                received.inspect(|received| value.copy_from_slice(received)).is_some()
            }
        }
    }
}
