//! A training from its terms to its weights: what each party does in a session.
//!
//! ```text
//!     setup     client: data                                server: model
//!               Ask                             <------>    Ask                   terms
//!               32 random bytes, digest         <------>    ..                    session
//!               silent OT: base OTs             <------>
//!               checksums                       <------>
//!     offline   features by private inference, of a head              features
//!     offline   a batch of silent OTs, where too few are left for the next step
//!     online    a step; both stages as often as the terms say
//!     online    checksums, shares of a score, checksums       after an epoch, if the terms say so
//!     offline   checksums                       <------>    every some steps, before a checkpoint
//!     online    checksums                       <------>
//!               shares of the weights, to whom the terms give them
//!               checksums                       <------>
//! ```

use std::time::Instant;

use lowkey_models::Network;
use lowkey_mpc::channel::Channel;
use lowkey_mpc::erasing::Erasing;
use lowkey_mpc::party::{Party, Stage};

use super::backbone::Backbone;
use super::export;
use super::kept::Kept;
use super::meeting::Met;
use super::run::Run;
use super::settings::{Contribution, Progress, Settings, Trained};
use super::terms::{Ask, Receivers, Terms};
use crate::boxed::Boxed;
use crate::client::give_up;
use crate::error::Result;
use crate::net::Stream;
use crate::randomness;
use crate::report::Measurement;
use crate::threads;

/// Takes part in a training or an evaluation over `stream`: the data owner as the client, the model owner as the server.
///
/// # Errors
/// When the parties do not ask for the same; when a checkpoint cannot be read or written, or one is there and nobody asked to go on from
/// it; when the connection or the peer fails: go on from the checkpoints then.
pub async fn train(stream: impl Stream + 'static, part: Contribution, settings: Settings) -> Result<Trained> {
    train_from(stream, part, settings, Erasing::new(*randomness::seed()?)).await
}

/// As [`train`], with a seed of the caller's. Whoever knows the seeds of both parties knows samples and weights.
///
/// # Errors
/// As [`train`].
#[cfg(feature = "deterministic")]
pub async fn train_seeded(
    stream: impl Stream + 'static,
    part: Contribution,
    settings: Settings,
    seed: [u8; 32],
) -> Result<Trained> {
    train_from(stream, part, settings, Erasing::new(seed)).await
}

async fn train_from(
    stream: impl Stream + 'static,
    part: Contribution,
    settings: Settings,
    randomness: Erasing,
) -> Result<Trained> {
    settings.check(&part)?;
    let (channel, heard) = match part.party() {
        Party::Client => (Channel::new(stream, Party::Client, settings.limits), None),
        Party::Server => {
            let Met { channel, ask } = Met::meet(stream, settings.limits).await?;
            (channel, Some(ask))
        }
    };
    train_over(channel, heard, part, settings, randomness).await
}

impl Met {
    /// Takes part in its training, as the model owner.
    ///
    /// # Errors
    /// As [`train`].
    pub async fn train(self, part: Contribution, settings: Settings) -> Result<Trained> {
        train_over(self.channel, Some(self.ask), part, settings, Erasing::new(*randomness::seed()?)).await
    }
}

/// The same, where the peer may have said what it asks for.
fn train_over(
    mut channel: Channel,
    heard: Option<Ask>,
    part: Contribution,
    settings: Settings,
    randomness: Erasing,
) -> Boxed<'static, Result<Trained>> {
    Box::pin(async move {
        threads::converse(async move || {
            let kept = Kept::read(&part, &settings)?;
            match follow(&mut channel, part, &settings, kept, heard, randomness).await {
                Ok(trained) => {
                    // The weights are there, whatever becomes of the connection.
                    let _ = channel.close().await;
                    Ok(trained)
                }
                Err(error) => {
                    give_up(&mut channel, &error).await;
                    Err(error.or_declined())
                }
            }
        })
        .await?
    })
}

/// The whole session.
async fn follow(
    channel: &mut Channel,
    part: Contribution,
    settings: &Settings,
    kept: Kept,
    heard: Option<Ask>,
    randomness: Erasing,
) -> Result<Trained> {
    let mut run = Run::open(channel, part, settings, kept, heard, randomness, false).await?;
    let mut ots = Measurement::start(channel, Stage::Offline);
    let online = Measurement::start(channel, Stage::Online);
    let (started, before) = (Instant::now(), channel.traffic().total().bytes());
    let (first, steps) = (run.done()?, run.terms.steps());
    let features = run.features.take();
    if features.is_some() && !run.terms.evaluates {
        // They took long.
        run.checkpoint(channel, settings).await?;
    }
    let mut score = None;
    while run.done()? < steps {
        ots.charge(run.step(channel, None).await?);
        let done = run.done()?;
        score = match run.terms.score_to != Receivers::None && done.is_multiple_of(run.terms.steps_per_epoch()) {
            true => run.score(channel).await?,
            false => None,
        };
        if let Some(told) = &settings.told {
            let seconds = started.elapsed().as_secs_f64();
            let bytes = channel.traffic().total().bytes() - before;
            let steps_per_epoch = run.terms.steps_per_epoch();
            told(&Progress { done, steps, steps_per_epoch, here: done - first, seconds, bytes, score });
        }
        if run.terms.evaluates {
            continue;
        }
        let due = run.terms.every > 0 && done.is_multiple_of(run.terms.every.into());
        if due || done == steps {
            run.checkpoint(channel, settings).await?;
        }
    }
    if first == steps && !run.terms.evaluates {
        // Nothing was left to do but the opening, which is noted.
        run.checkpoint(channel, settings).await?;
    }
    let here = if run.terms.evaluates { 0 } else { run.done()? - first };
    let online = online.finish(channel).stage;
    let closing = Measurement::start(channel, Stage::Online);
    let backbone = run.backbone.take();
    let (terms, setup, masters) = run.close(channel).await?;
    let closing = closing.finish(channel).stage;
    let ots = ots.finish(channel).stage;
    let network = masters.map(|masters| made(&terms, backbone.as_ref(), &masters)).transpose()?;
    let score = score.filter(|_| terms.evaluates);
    Ok(Trained { terms, network, steps: here, score, setup, features, ots, online, closing })
}

/// The network of these weights; of a head behind the model owner's.
fn made(terms: &Terms, backbone: Option<&Backbone>, masters: &[Vec<i64>]) -> Result<Network> {
    match (backbone, masters) {
        (Some(backbone), [head]) => backbone.with_head(&terms.format, head),
        _ => export::network(&terms.net, &terms.format, masters, &format!("trained-{}", terms.net)),
    }
}
