//! The paths, and the OpenAPI document that comes of them.
use super::Api;
use super::access::{Client, guard};
use super::answer::Page;
use super::feed::{Feed, Place};
use super::path::{rewrite, segment};
use super::problem::Problem;
use super::read::offered;
use super::schema::{After, Entry, Event, Keys, Listed, Once, Pairs, Placed, Range, Update};
use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::rejection::BytesRejection;
use axum::extract::{DefaultBodyLimit, State};
use axum::http::request::Parts;
use axum::http::{HeaderName, HeaderValue, Method, StatusCode, header};
use axum::response::Response;
use axum::routing::{get, post};
use std::sync::Arc;
use tower::ServiceExt as _;
use tower_http::compression::CompressionLayer;
use tower_http::cors::{AllowOrigin, CorsLayer};
use utoipa::OpenApi as _;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

type Shared = State<Arc<Api>>;

#[derive(utoipa::OpenApi)]
#[openapi(
    info(
        title = "kafka-redis-bridge",
        description = "What the bridge writes into Redis: latest values, histories, keys, live updates; and publishing into Kafka. A key may stand in a path percent-encoded or, where it holds slashes, plain."
    ),
    components(schemas(Problem)),
    modifiers(&Bearer)
)]
struct Document;

/// Tokens, where they are asked for.
struct Bearer;

impl utoipa::Modify for Bearer {
    fn modify(&self, openapi: &mut utoipa::openapi::OpenApi) {
        use utoipa::openapi::security::{HttpAuthScheme, HttpBuilder, SecurityRequirement, SecurityScheme};
        let scheme = SecurityScheme::Http(HttpBuilder::new().scheme(HttpAuthScheme::Bearer).build());
        openapi.components.get_or_insert_default().add_security_scheme("token", scheme);
        openapi.security = Some(vec![SecurityRequirement::default(), SecurityRequirement::new("token", Vec::<String>::new())]);
    }
}

/// All paths with their documents.
fn paths() -> OpenApiRouter<Arc<Api>> {
    OpenApiRouter::with_openapi(Document::openapi())
        .routes(routes!(pairs))
        .routes(routes!(streaming_live))
        .routes(routes!(streaming_latest))
        .routes(routes!(streaming_history))
        .routes(routes!(streaming_key_live))
        .routes(routes!(streaming_publish))
        .routes(routes!(route_list))
        .routes(routes!(route_keys))
        .routes(routes!(route_live))
        .routes(routes!(route_latest))
        .routes(routes!(route_history))
        .routes(routes!(route_key_live))
        .routes(routes!(route_publish))
}

/// The OpenAPI document.
pub fn document() -> String {
    paths().into_openapi().to_pretty_json().unwrap_or_default()
}

pub(super) fn router(api: Arc<Api>) -> Router {
    let document = Bytes::from(document());
    let body_max = usize::try_from(api.serve.body_max.0).unwrap_or(usize::MAX);
    let (routes, _) = paths().split_for_parts();
    let whole = routes
        // An empty key, which the router takes for none at the end of a path.
        .route("/api/v1/streaming/", post(streaming_publish))
        .route("/api/v1/routes/{route}/", post(route_publish))
        .route("/api/v1/openapi.json", get(async move || ([(header::CONTENT_TYPE, "application/json")], document)))
        .method_not_allowed_fallback(|| async {
            Problem::new(StatusCode::METHOD_NOT_ALLOWED, "method", "not this method on this path; /api/v1/openapi.json has all")
        })
        .fallback(|| async { Problem::new(StatusCode::NOT_FOUND, "no-path", "no such path; /api/v1/openapi.json has all") })
        .layer(DefaultBodyLimit::max(body_max))
        .layer(axum::middleware::from_fn_with_state(api.clone(), guard))
        // Outside: a page elsewhere reads refusals, too, and its preflights, which reach nothing, count for nothing.
        .layer(tower::util::option_layer(cors(&api.serve.cors_origins)))
        .layer(CompressionLayer::new())
        .with_state(api);
    // Before the path is looked at.
    super::page::router().fallback_service(whole.map_request(rewrite::<Body>))
}

/// What pages of these origins may do; of none nothing.
fn cors(origins: &[String]) -> Option<CorsLayer> {
    let named = ["authorization", "content-type", "idempotency-key", "if-none-match", "last-event-id"].map(HeaderName::from_static);
    let shown = ["age", "etag", "idempotency-replayed", "link", "retry-after", "warning", "www-authenticate"].map(HeaderName::from_static);
    let layer = CorsLayer::new().allow_methods([Method::GET, Method::POST]).allow_headers(named).expose_headers(shown);
    let any = origins.iter().any(|o| o == "*");
    let allowed = origins.iter().filter_map(|o| HeaderValue::from_str(o).ok());
    (!origins.is_empty()).then(|| layer.allow_origin(if any { AllowOrigin::any() } else { AllowOrigin::list(allowed) }))
}

/// Of which route and key a request is.
struct Of {
    route: usize,
    key: Vec<u8>,
}

impl Api {
    fn streamed(&self, parts: &Parts) -> Result<Of, Problem> {
        let none = || Problem::new(StatusCode::NOT_FOUND, "no-route", "no route stands behind /api/v1/streaming: serve.streaming names it");
        Ok(Of { route: self.streaming.ok_or_else(none)?, key: segment(&parts.uri, 3) })
    }

    /// A name that the route itself writes comes before a record's key.
    fn routed(&self, parts: &Parts) -> Result<Of, Problem> {
        let of = self.routed_by_key(parts)?;
        let fixed = self.offers.iter().position(|o| o.name == self.offers[of.route].name && o.only.as_ref() == Some(&of.key));
        Ok(Of { route: fixed.unwrap_or(of.route), ..of })
    }

    fn routed_by_key(&self, parts: &Parts) -> Result<Of, Problem> {
        let name = segment(&parts.uri, 3);
        let known = || self.offers.iter().filter(|o| o.only.is_none()).map(|o| o.name.as_str()).collect::<Vec<_>>().join(", ");
        let none =
            || Problem::new(StatusCode::NOT_FOUND, "no-route", format!("no route {:?}; there are: {}", String::from_utf8_lossy(&name), known())).about("route");
        Ok(Of { route: self.offers.iter().position(|o| o.name.as_bytes() == name).ok_or_else(none)?, key: segment(&parts.uri, 4) })
    }

    async fn show_latest(&self, parts: &Parts, of: Result<Of, Problem>) -> Response {
        self.answer(parts, async {
            let of = of?;
            self.latest(&self.offers[of.route], &of.key, &parts.uri).await
        })
        .await
    }

    async fn show_history(&self, parts: &Parts, of: Result<Of, Problem>) -> Response {
        self.answer(parts, async {
            let of = of?;
            self.history(&self.offers[of.route], &of.key, &parts.uri).await
        })
        .await
    }

    async fn show_keys(&self, parts: &Parts, of: Result<Of, Problem>, name: &str) -> Response {
        self.answer(parts, async {
            let of = of?;
            self.keys(&self.offers[of.route], &parts.uri, name).await
        })
        .await
    }

    async fn show_live(self: Arc<Self>, parts: &Parts, client: Client, of: Result<Of, Problem>, all: bool) -> Result<Response, Problem> {
        let of = of?;
        super::query::Params::read(&parts.uri, &[])?;
        let offer = &self.offers[of.route];
        offered(offer, offer.live.first(), "live")?;
        if all {
            // What was missed is found by the list of keys.
            offered(offer, offer.index.as_ref(), "list")?;
        }
        let after = match parts.headers.get("last-event-id") {
            Some(id) => Some(Place::parse(id.to_str().unwrap_or_default())?),
            None => None,
        };
        Ok(Feed::open(self, client, of.route, (!all).then_some(of.key), after).await?.into_response())
    }

    pub(super) fn too_large(&self) -> Problem {
        Problem::new(StatusCode::PAYLOAD_TOO_LARGE, "too-large", format!("at most serve.body_max, {}", String::from(self.serve.body_max))).about("body")
    }

    async fn take(self: Arc<Self>, parts: &Parts, client: &Client, of: Result<Of, Problem>, body: Result<Bytes, BytesRejection>) -> Result<Response, Problem> {
        let of = of?;
        let body = body.map_err(|rejection| match rejection.status() {
            StatusCode::PAYLOAD_TOO_LARGE => self.too_large(),
            _ => Problem::field("body", rejection.body_text(), "a whole body"),
        })?;
        self.publish(of.route, of.key, client, &parts.headers, body).await
    }
}

/// The pairs that have data.
#[utoipa::path(get, path = "/api/v1/streaming/pairs", params(Listed),
    responses((status = 200, description = "The pairs, in the order of their bytes", body = Pairs), (status = "default", description = "What is wrong", body = Problem, content_type = "application/problem+json")))]
async fn pairs(State(api): Shared, parts: Parts) -> Response {
    api.show_keys(&parts, api.streamed(&parts), "pairs").await
}

/// Live updates of all pairs.
#[utoipa::path(get, path = "/api/v1/streaming/live", params(After),
    responses((status = 200, description = "Server-Sent Events", content_type = "text/event-stream", body = Event), (status = "default", description = "What is wrong", body = Problem, content_type = "application/problem+json")))]
async fn streaming_live(State(api): Shared, client: Client, parts: Parts) -> Result<Response, Problem> {
    let of = api.streamed(&parts);
    api.show_live(&parts, client, of, true).await
}

/// The latest value of a pair, untouched.
#[utoipa::path(get, path = "/api/v1/streaming/{pair}/latest", params(("pair" = String, Path, description = "Such as BTC/USD")),
    responses((status = 200, description = "The value", body = serde_json::Value), (status = 304, description = "The client has it"), (status = "default", description = "What is wrong", body = Problem, content_type = "application/problem+json")))]
async fn streaming_latest(State(api): Shared, parts: Parts) -> Response {
    api.show_latest(&parts, api.streamed(&parts)).await
}

/// Entries of a pair's stream.
#[utoipa::path(get, path = "/api/v1/streaming/{pair}/history", params(("pair" = String, Path, description = "Such as BTC/USD"), Range),
    responses((status = 200, description = "The entries; Link leads to the next page", body = Vec<Entry>), (status = 304, description = "The client has it"), (status = "default", description = "What is wrong", body = Problem, content_type = "application/problem+json")))]
async fn streaming_history(State(api): Shared, parts: Parts) -> Response {
    api.show_history(&parts, api.streamed(&parts)).await
}

/// Live updates of a pair.
#[utoipa::path(get, path = "/api/v1/streaming/{pair}/live", params(("pair" = String, Path, description = "Such as BTC/USD"), After),
    responses((status = 200, description = "Server-Sent Events", content_type = "text/event-stream", body = Event), (status = "default", description = "What is wrong", body = Problem, content_type = "application/problem+json")))]
async fn streaming_key_live(State(api): Shared, client: Client, parts: Parts) -> Result<Response, Problem> {
    let of = api.streamed(&parts);
    api.show_live(&parts, client, of, false).await
}

/// Publishes an update of a pair into Kafka.
#[utoipa::path(post, path = "/api/v1/streaming/{pair}", request_body(content = Update, description = "The update, which goes into Kafka untouched"),
    params(("pair" = String, Path, description = "Such as BTC/USD"), Once),
    responses((status = 201, description = "Kafka has it; Idempotency-Replayed tells whether it had it already", body = Placed), (status = "default", description = "What is wrong", body = Problem, content_type = "application/problem+json")))]
async fn streaming_publish(State(api): Shared, client: Client, parts: Parts, body: Result<Bytes, BytesRejection>) -> Result<Response, Problem> {
    let of = api.streamed(&parts);
    api.take(&parts, &client, of, body).await
}

/// The routes, and what each offers.
#[utoipa::path(get, path = "/api/v1/routes",
    responses((status = 200, description = "The routes", body = serde_json::Value), (status = "default", description = "What is wrong", body = Problem, content_type = "application/problem+json")))]
async fn route_list(State(api): Shared, parts: Parts) -> Response {
    api.answer(&parts, async { Ok::<Page, Problem>(api.routes()) }).await
}

/// The keys of a route that have data.
#[utoipa::path(get, path = "/api/v1/routes/{route}/keys", params(("route" = String, Path), Listed),
    responses((status = 200, description = "The keys, in the order of their bytes", body = Keys), (status = "default", description = "What is wrong", body = Problem, content_type = "application/problem+json")))]
async fn route_keys(State(api): Shared, parts: Parts) -> Response {
    api.show_keys(&parts, api.routed_by_key(&parts), "keys").await
}

/// Live updates of all keys of a route.
#[utoipa::path(get, path = "/api/v1/routes/{route}/live", params(("route" = String, Path), After),
    responses((status = 200, description = "Server-Sent Events", content_type = "text/event-stream", body = Event), (status = "default", description = "What is wrong", body = Problem, content_type = "application/problem+json")))]
async fn route_live(State(api): Shared, client: Client, parts: Parts) -> Result<Response, Problem> {
    let of = api.routed_by_key(&parts);
    api.show_live(&parts, client, of, true).await
}

/// The latest value of a key, untouched.
#[utoipa::path(get, path = "/api/v1/routes/{route}/{key}/latest", params(("route" = String, Path), ("key" = String, Path)),
    responses((status = 200, description = "The value", body = serde_json::Value), (status = 304, description = "The client has it"), (status = "default", description = "What is wrong", body = Problem, content_type = "application/problem+json")))]
async fn route_latest(State(api): Shared, parts: Parts) -> Response {
    api.show_latest(&parts, api.routed(&parts)).await
}

/// Entries of a key's stream.
#[utoipa::path(get, path = "/api/v1/routes/{route}/{key}/history", params(("route" = String, Path), ("key" = String, Path), Range),
    responses((status = 200, description = "The entries; Link leads to the next page", body = Vec<Entry>), (status = 304, description = "The client has it"), (status = "default", description = "What is wrong", body = Problem, content_type = "application/problem+json")))]
async fn route_history(State(api): Shared, parts: Parts) -> Response {
    api.show_history(&parts, api.routed(&parts)).await
}

/// Live updates of a key.
#[utoipa::path(get, path = "/api/v1/routes/{route}/{key}/live", params(("route" = String, Path), ("key" = String, Path), After),
    responses((status = 200, description = "Server-Sent Events", content_type = "text/event-stream", body = Event), (status = "default", description = "What is wrong", body = Problem, content_type = "application/problem+json")))]
async fn route_key_live(State(api): Shared, client: Client, parts: Parts) -> Result<Response, Problem> {
    let of = api.routed(&parts);
    api.show_live(&parts, client, of, false).await
}

/// Publishes an update of a key into Kafka.
#[utoipa::path(post, path = "/api/v1/routes/{route}/{key}", request_body(content = Update, description = "The update, which goes into Kafka untouched"),
    params(("route" = String, Path), ("key" = String, Path), Once),
    responses((status = 201, description = "Kafka has it; Idempotency-Replayed tells whether it had it already", body = Placed), (status = "default", description = "What is wrong", body = Problem, content_type = "application/problem+json")))]
async fn route_publish(State(api): Shared, client: Client, parts: Parts, body: Result<Bytes, BytesRejection>) -> Result<Response, Problem> {
    let of = api.routed_by_key(&parts);
    api.take(&parts, &client, of, body).await
}
