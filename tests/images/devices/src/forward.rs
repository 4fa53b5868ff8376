//! Moves frames between two network devices as they are, large ones and unfinished checksums included.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::task::{Context, Poll};

use platform::device::{Frame, Net};

/// Frames moved before others run.
const BATCH: usize = 64;

/// Frames that wait for room, at most; more are lost, as in any switch.
const QUEUE: usize = 512;

/// Forwards for ever.
pub(crate) async fn between(one: Box<dyn Net>, other: Box<dyn Net>) {
    let mut nets = [one, other];
    let mut queues = [VecDeque::new(), VecDeque::new()];
    let mut frames = Vec::new();
    poll_fn(|context| {
        for from in 0..2 {
            let to = 1 - from;
            step(context, &mut nets, &mut queues[to], &mut frames, from, to);
        }
        Poll::<()>::Pending
    })
    .await;
}

fn step(
    context: &mut Context<'_>,
    nets: &mut [Box<dyn Net>; 2],
    queue: &mut VecDeque<Frame>,
    frames: &mut Vec<Frame>,
    from: usize,
    to: usize,
) {
    if nets[from].poll_receive(context, frames, BATCH).is_ready() {
        // There may be more.
        context.waker().wake_by_ref();
    }
    queue.extend(frames.drain(..));
    queue.truncate(QUEUE);
    nets[to].transmit(context, queue);
}
