//! Runs the stages of a program over a channel.

use super::exec::{PreparedProgram, ReadyProgram, Turn};
use crate::error::Result;
use crate::primitive::bits::Planes;
use crate::transport::channel::{Channel, FrameKind};

/// The offline stage. `inputs` are this party's inputs of offline times.
///
/// # Errors
/// Those of the channel, and [`crate::error::Error::Protocol`] for a frame that is malformed.
pub async fn offline(prepared: PreparedProgram, channel: &mut Channel, inputs: Vec<Planes>) -> Result<ReadyProgram> {
    let mut run = prepared.offline(inputs);
    loop {
        match run.turn() {
            Turn::Send(payload) => channel.send(FrameKind::Data, payload).await?,
            Turn::Receive(len) => run.receive(&channel.recv(FrameKind::Data, len).await?)?,
            Turn::Done => return Ok(run.finish()),
        }
    }
}

/// The online stage. `inputs` are this party's other inputs; returns its outputs.
///
/// # Errors
/// As [`offline`].
pub async fn online(ready: ReadyProgram, channel: &mut Channel, inputs: Vec<Planes>) -> Result<Vec<Planes>> {
    let mut run = ready.online(inputs);
    loop {
        match run.turn() {
            Turn::Send(payload) => channel.send(FrameKind::Data, payload).await?,
            Turn::Receive(len) => run.receive(&channel.recv(FrameKind::Data, len).await?)?,
            Turn::Done => return Ok(run.finish()),
        }
    }
}
