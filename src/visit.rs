//! What a server's session is given, and how it begins, waits and ends: what guarded sessions and others have in common.

use std::time::Duration;

use lowkey_mpc::channel::{Channel, Limits, Traffic};
use lowkey_mpc::erasing::Erasing;
use lowkey_mpc::ot::Correlations;
use tokio::sync::watch;

use crate::admission::{Room, transfer};
use crate::error::{AbortCode, Result};
use crate::policy::Visitor;
use crate::publication::{self, ServerModel};
use crate::report::Measurement;
use crate::scope::CONTROL;
use crate::session::{Action, Done, MAX_CONTROL, Request};
use crate::watch::SessionWatch;

/// How long a session that is asked to end waits for a client: for the use of its slots, and for its goodbye.
pub(crate) const LAST_PAUSE: Duration = Duration::from_secs(1);
/// The longest stage, in timeouts of the connection, apart from what its bytes need.
const STAGE_TIMEOUTS: u32 = 5;
/// What the set-up of OTs sends, and more.
pub(crate) const OT_SETUP_BYTES: u64 = 4 << 20;

/// What a server tolerates.
#[derive(Clone, Debug)]
pub struct Options {
    /// Of each connection.
    pub limits: Limits,
    /// The longest silence between two requests.
    pub idle: Duration,
    /// The client, and what it is allowed.
    pub visitor: Visitor,
    /// Ends the session, between two requests.
    pub stop: Stop,
    /// Is told what the session does.
    pub watch: SessionWatch,
    /// The memory that the session may need.
    pub room: Room,
}

/// Asks sessions to end. The default asks for nothing.
#[derive(Clone, Debug, Default)]
pub struct Stop {
    server: Option<watch::Receiver<bool>>,
    seat: Option<watch::Receiver<bool>>,
}

impl Stop {
    /// Asks once the sender says true.
    pub fn new(asked: watch::Receiver<bool>) -> Self {
        Self { server: Some(asked), seat: None }
    }

    /// Asks once either sender says true: the server's, or that of this session's seat.
    pub(crate) fn or(self, seat: watch::Receiver<bool>) -> Self {
        Self { seat: Some(seat), ..self }
    }

    /// Whether it was asked for.
    pub fn is_asked(&self) -> bool {
        [&self.server, &self.seat].into_iter().flatten().any(|asked| *asked.borrow())
    }

    /// Waits until it is asked for.
    pub async fn asked(&mut self) {
        tokio::select! {
            () = said(&mut self.server) => {}
            () = said(&mut self.seat) => {}
        }
    }
}

/// Waits until the sender says true.
async fn said(asked: &mut Option<watch::Receiver<bool>>) {
    if let Some(asked) = asked
        && asked.wait_for(|asked| *asked).await.is_ok()
    {
        return;
    }
    // Nobody is left who could ask.
    std::future::pending().await
}

impl Default for Options {
    fn default() -> Self {
        Self {
            limits: Limits::default(),
            idle: Duration::from_secs(600),
            visitor: Visitor::default(),
            stop: Stop::default(),
            watch: SessionWatch::default(),
            room: Room::default(),
        }
    }
}

/// A stage that takes longer than this much data needs on a slow line ends, however much seems to move.
pub(crate) async fn in_time<T>(options: &Options, bytes: u64, stage: impl Future<Output = Result<T>>) -> Result<T> {
    let after = options.limits.timeout.saturating_mul(STAGE_TIMEOUTS) + transfer(bytes);
    tokio::time::timeout(after, stage).await.map_err(|_| lowkey_mpc::error::Error::Timeout { after })?
}

/// The welcome, the hint and the first OTs.
pub(crate) async fn set_up(
    channel: &mut Channel,
    model: &ServerModel,
    options: &Options,
    randomness: &mut Erasing,
) -> Result<Correlations> {
    let package = (model.package.plan.len() + model.package.hint.len()) as u64;
    let stage = async {
        let sends = options.room.sends(package);
        publication::welcome(channel, model).await?;
        drop(sends);
        channel.scope("base ots");
        let ot = Correlations::agree(channel, &mut randomness.next_rng()).await?;
        options.room.stay().await?;
        let ot = ot.begin(channel).await?;
        channel.scope(CONTROL);
        channel.compare_sums().await?;
        Ok(ot)
    };
    in_time(options, package + OT_SETUP_BYTES, stage).await
}

/// What the client asks for next, and the measurement that begins with its request; `None` if the session ends: the client closes it, or the
/// server is asked to stop and has said so.
pub(crate) async fn next_action(
    channel: &mut Channel,
    options: &Options,
    stop: &mut Stop,
    slots: bool,
    ot: &Correlations,
) -> Result<Option<(Action, Measurement)>> {
    let sums = channel.sums();
    let Some((request, before)) = next_request(channel, options.idle, stop, slots).await? else {
        say_goodbye(channel).await;
        return Ok(None);
    };
    let measurement = Measurement::resume(channel, before);
    sums.check(request.sums)?;
    ot.check_next_index(request.ots)?;
    match request.action {
        Action::Close => Ok(None),
        Action::Prepare { .. } if stop.is_asked() => {
            say_goodbye(channel).await;
            Ok(None)
        }
        Action::Prepare { .. } | Action::Run { .. } | Action::Direct { .. } => Ok(Some((request.action, measurement))),
    }
}

/// The next request; `None` if the session is asked to end before one comes. A client with slots may use them, without a pause.
async fn next_request(
    channel: &mut Channel,
    idle: Duration,
    stop: &mut Stop,
    slots: bool,
) -> Result<Option<(Request, Traffic)>> {
    let late = |after| lowkey_mpc::error::Error::Timeout { after };
    let mut opening = std::pin::pin!(channel.recv_opening::<Request>(MAX_CONTROL));
    tokio::select! {
        biased;
        opening = tokio::time::timeout(idle, &mut opening) => return Ok(Some(opening.map_err(|_| late(idle))??)),
        () = stop.asked() => {}
    }
    if !slots {
        return Ok(None);
    }
    match tokio::time::timeout(LAST_PAUSE.min(idle), &mut opening).await {
        Ok(opening) => Ok(Some(opening?)),
        Err(_) => Ok(None),
    }
}

/// Tells a client that the server ends. It may be sending, and shall read why.
async fn say_goodbye(channel: &mut Channel) {
    channel.abort(AbortCode::Stopping as u16).await;
    channel.drain(LAST_PAUSE).await;
}

/// Ends an online stage.
pub(crate) async fn finish(channel: &mut Channel) -> Result<()> {
    channel.scope(CONTROL);
    Ok(channel.send_control(&Done { sums: channel.sums() }).await?)
}
