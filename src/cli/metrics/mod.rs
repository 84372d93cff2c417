//! `serve --metrics`: what a server does, as text for Prometheus, and whether it lives and is ready.
//!
//! Labels are models, stages, outcomes and whose fault; never a client, whose names would make as many series, and never a value.

mod http;

use std::net::SocketAddr;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use lowkey::readiness::{Readiness, State};
use lowkey::report::{StageReport, peak_memory};
use lowkey::watch::{Event, Stock, Watcher, fault};
use lowkey::{Attendance, Error, Result, Reveal, Server};
use metrics::{counter, gauge, histogram};
use metrics_exporter_prometheus::{PrometheusBuilder, PrometheusRecorder};
use tokio::net::TcpListener;

use super::log;
use http::Page;

/// Upper bounds of the histogram of seconds.
const SECONDS: [f64; 14] = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 15.0, 60.0];
/// How often samples are added up, whether or not somebody reads them.
const UPKEEP: Duration = Duration::from_secs(5);

/// All numbers of this process; a copy is the same.
#[derive(Clone)]
pub struct Board(Arc<Inner>);

struct Inner {
    recorder: PrometheusRecorder,
    readiness: Readiness,
    /// Once it is published.
    server: OnceLock<Server>,
    /// Bytes that all sessions may need.
    limit: Option<u64>,
}

impl Board {
    /// Listens on `address` and answers from now on, as long as the runtime lives. Returns where, too.
    pub async fn listen(address: &str, limit: Option<u64>, readiness: Readiness) -> Result<(Self, SocketAddr)> {
        let failed = |source| Error::Listen { address: address.to_owned(), source };
        let listener = TcpListener::bind(address).await.map_err(failed)?;
        let bound = listener.local_addr().map_err(failed)?;
        let board = Self::new(limit, readiness)?;
        let (pages, handle) = (board.clone(), board.0.recorder.handle());
        tokio::spawn(http::serve(listener, move |path| pages.page(path)));
        tokio::spawn(async move {
            loop {
                tokio::time::sleep(UPKEEP).await;
                handle.run_upkeep();
            }
        });
        Ok((board, bound))
    }

    fn new(limit: Option<u64>, readiness: Readiness) -> Result<Self> {
        let recorder = PrometheusBuilder::new().set_buckets(&SECONDS).map_err(Error::internal)?.build_recorder();
        metrics::with_local_recorder(&recorder, describe);
        Ok(Self(Arc::new(Inner { recorder, readiness, server: OnceLock::new(), limit })))
    }

    /// The server is published.
    pub fn published(&self, server: &Server) {
        let _ = self.0.server.set(server.clone());
    }

    fn page(&self, path: &str) -> Page {
        match path {
            "/healthz" => Page::text("200 OK", "alive\n"),
            "/readyz" => match self.0.readiness.state() {
                State::Starting => Page::text("503 Service Unavailable", "starting\n"),
                State::Ready => Page::text("200 OK", "ready\n"),
                State::Ending => Page::text("503 Service Unavailable", "ending\n"),
            },
            "/metrics" => Page { status: "200 OK", kind: "text/plain; version=0.0.4", body: self.render() },
            _ => Page::text("404 Not Found", "/metrics, /healthz, /readyz\n"),
        }
    }

    fn render(&self) -> String {
        let attendance = self.0.server.get().map(Server::attendance).unwrap_or_default();
        let ready = self.0.readiness.is_ready();
        metrics::with_local_recorder(&self.0.recorder, || measure(attendance, ready, self.0.limit));
        self.0.recorder.handle().render()
    }
}

impl Watcher for Board {
    fn notice(&self, event: &Event<'_>) {
        metrics::with_local_recorder(&self.0.recorder, || count(event));
    }
}

/// Names, units and meanings, which are those of docs/deploy.md.
fn describe() {
    use metrics::{describe_counter as counter, describe_gauge as gauge, describe_histogram as histogram};
    counter!("lowkey_sessions_total", "Sessions that are over, by model, outcome and whose fault.");
    counter!("lowkey_inferences_total", "Inferences answered, by model, what was revealed and schedule.");
    counter!("lowkey_bytes_total", "Bytes over sockets, by stage and direction.");
    counter!("lowkey_log_lines_lost_total", "Lines of the log that nobody read in time.");
    counter!("lowkey_dismissed_total", "Connections that came to no session, by whose fault.");
    histogram!("lowkey_stage_seconds", "Seconds of a stage, by model and stage.");
    gauge!("lowkey_ready", "1 while clients are taken.");
    gauge!("lowkey_sessions", "Sessions now.");
    gauge!("lowkey_waiting", "Clients that wait for a session.");
    gauge!("lowkey_connections", "Connections that have not said hello.");
    gauge!("lowkey_slots", "Prepared slots that wait for their inputs.");
    gauge!("lowkey_slots_bytes", "Memory of these.");
    gauge!("lowkey_ots", "OTs that were made and not used.");
    gauge!("lowkey_ots_bytes", "Memory of these, and of what more are made of.");
    gauge!("lowkey_reserved_bytes", "Memory that the sessions may need.");
    gauge!("lowkey_reserved_limit_bytes", "The most that they may need together.");
    gauge!("lowkey_peak_memory_bytes", "The most memory that the process has had resident.");
}

/// What is so now.
fn measure(attendance: Attendance, ready: bool, limit: Option<u64>) {
    let Attendance { at_the_door, in_line, sessions, reserved, held, .. } = attendance;
    let Stock { slots, slot_bytes, ots, ot_bytes } = held;
    let set = |name: &'static str, value: u64| gauge!(name).set(value as f64);
    set("lowkey_ready", ready.into());
    set("lowkey_sessions", sessions as u64);
    set("lowkey_waiting", in_line as u64);
    set("lowkey_connections", at_the_door as u64);
    set("lowkey_slots", slots);
    set("lowkey_slots_bytes", slot_bytes);
    set("lowkey_ots", ots);
    set("lowkey_ots_bytes", ot_bytes);
    set("lowkey_reserved_bytes", reserved);
    limit.into_iter().for_each(|limit| set("lowkey_reserved_limit_bytes", limit));
    counter!("lowkey_log_lines_lost_total").absolute(log::lost_lines());
    peak_memory(None).into_iter().for_each(|peak| set("lowkey_peak_memory_bytes", peak));
}

/// What has happened.
fn count(event: &Event<'_>) {
    match event {
        Event::Dismissed { error, .. } => counter!("lowkey_dismissed_total", "fault" => fault(error)).increment(1),
        Event::SetUp(subject, report) => stage("setup", subject.model.to_string(), report),
        Event::Prepared(subject, report) => stage("offline", subject.model.to_string(), report),
        Event::Answered { subject, reveal, offline, online } => {
            let model = subject.model.to_string();
            stage("online", model.clone(), online);
            let reveal = if *reveal == Reveal::Class { "class" } else { "logits" };
            let schedule = if offline.is_some() { "prepared" } else { "direct" };
            counter!("lowkey_inferences_total", "model" => model, "reveal" => reveal, "schedule" => schedule)
                .increment(1);
        }
        Event::Ended { subject, error, .. } => {
            let (outcome, fault) = match error {
                None => ("closed", "none"),
                Some(Error::Declined(_)) => ("refused", "none"),
                Some(error) => ("failed", fault(error)),
            };
            let model = subject.model.to_string();
            counter!("lowkey_sessions_total", "model" => model, "outcome" => outcome, "fault" => fault).increment(1);
        }
        _ => {}
    }
}

fn stage(stage: &'static str, model: String, report: &StageReport) {
    histogram!("lowkey_stage_seconds", "stage" => stage, "model" => model).record(report.ms / 1e3);
    counter!("lowkey_bytes_total", "stage" => stage, "direction" => "sent").increment(report.socket_bytes_sent);
    counter!("lowkey_bytes_total", "stage" => stage, "direction" => "received").increment(report.socket_bytes_received);
}
