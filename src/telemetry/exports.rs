//! Decides which signals are exported over OTLP, from OpenTelemetry's standard environment variables. Read once, at the
//! start.

use super::TelemetryError;

/// The signals to export.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Exports {
    pub(super) traces: bool,
    pub(super) metrics: bool,
}

impl Exports {
    /// Reads the variables. An endpoint enables both signals. `OTEL_TRACES_EXPORTER` and `OTEL_METRICS_EXPORTER` decide
    /// for one signal: `otlp`, `none`, or for metrics `prometheus`, which `/metrics` serves in any case.
    /// `OTEL_SDK_DISABLED=true` turns both off.
    pub(super) fn read(env: impl Fn(&str) -> Option<String>) -> Result<Self, TelemetryError> {
        let set = |name: &str| env(name).filter(|value| !value.trim().is_empty());
        if set("OTEL_SDK_DISABLED").is_some_and(|value| value.eq_ignore_ascii_case("true")) {
            return Ok(Self::default());
        }
        let everything = set("OTEL_EXPORTER_OTLP_ENDPOINT").is_some();
        let wanted = |selector: &'static str, endpoint: &str, known: &[&str]| match set(selector) {
            None => Ok(everything || set(endpoint).is_some()),
            Some(names) => {
                let names: Vec<_> = names.split(',').map(str::trim).collect();
                match names.iter().find(|name| !known.contains(name)) {
                    Some(_) => Err(TelemetryError::Exporter { variable: selector, known: known.join(", ") }),
                    None => Ok(names.contains(&"otlp")),
                }
            }
        };
        let exports = Self {
            traces: wanted("OTEL_TRACES_EXPORTER", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", &["otlp", "none"])?,
            metrics: wanted(
                "OTEL_METRICS_EXPORTER",
                "OTEL_EXPORTER_OTLP_METRICS_ENDPOINT",
                &["otlp", "prometheus", "none"],
            )?,
        };
        // The exporter would silently speak HTTP to a port that expects gRPC.
        for (signal, variable) in [
            (exports.traces || exports.metrics, "OTEL_EXPORTER_OTLP_PROTOCOL"),
            (exports.traces, "OTEL_EXPORTER_OTLP_TRACES_PROTOCOL"),
            (exports.metrics, "OTEL_EXPORTER_OTLP_METRICS_PROTOCOL"),
        ] {
            if signal && set(variable).is_some_and(|protocol| protocol.trim() != "http/protobuf") {
                return Err(TelemetryError::Exporter { variable, known: "http/protobuf".to_owned() });
            }
        }
        Ok(exports)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn read(env: &[(&str, &str)]) -> Result<(bool, bool), TelemetryError> {
        let find = |name: &str| env.iter().find(|(n, _)| *n == name).map(|(_, value)| (*value).to_owned());
        Exports::read(find).map(|exports| (exports.traces, exports.metrics))
    }

    #[test]
    fn the_environment_decides() {
        let endpoint = ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://collector:4318");
        assert_eq!(read(&[]).unwrap(), (false, false));
        assert_eq!(read(&[("OTEL_EXPORTER_OTLP_ENDPOINT", "")]).unwrap(), (false, false));
        assert_eq!(read(&[endpoint]).unwrap(), (true, true));
        assert_eq!(read(&[endpoint, ("OTEL_METRICS_EXPORTER", "prometheus")]).unwrap(), (true, false));
        assert_eq!(read(&[endpoint, ("OTEL_TRACES_EXPORTER", "none")]).unwrap(), (false, true));
        assert_eq!(read(&[("OTEL_METRICS_EXPORTER", "otlp, prometheus")]).unwrap(), (false, true));
        assert_eq!(read(&[("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "http://c")]).unwrap(), (true, false));
        assert_eq!(read(&[endpoint, ("OTEL_SDK_DISABLED", "TRUE")]).unwrap(), (false, false));
        assert!(read(&[("OTEL_TRACES_EXPORTER", "zipkin")]).is_err());
        assert!(read(&[endpoint, ("OTEL_EXPORTER_OTLP_PROTOCOL", "http/protobuf")]).is_ok());
        assert!(read(&[endpoint, ("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc")]).is_err());
        assert!(read(&[("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc")]).is_ok());
    }
}
