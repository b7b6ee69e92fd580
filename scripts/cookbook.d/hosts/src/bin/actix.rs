//! The plugin behind actix-web: `/cents/1500` asks it, and a POST to `/swap` loads its file again.

use std::{env, error::Error};

use actix_web::{
    App, HttpServer,
    error::{ErrorInternalServerError, ErrorUnprocessableEntity},
    get, post, web,
};
use hotswap_core::{Hotswap, Policy, Trust};
use interface::{Parcel, Postage};

type Shared = web::Data<Hotswap<dyn Postage>>;

#[get("/cents/{grams}")]
async fn cents(postage: Shared, grams: web::Path<u32>) -> actix_web::Result<String> {
    let parcel = Parcel { grams: *grams, country: "NL".to_owned() };
    let cents = postage.call(|it| it.cents(&parcel));
    let cents = cents.map_err(ErrorInternalServerError)?;
    Ok(cents.map_err(ErrorUnprocessableEntity)?.to_string())
}

#[post("/swap")]
async fn swap(postage: Shared) -> actix_web::Result<String> {
    let postage = postage.into_inner();
    let swapped = postage.swap_async(postage.last_accepted()).await;
    let swapped = swapped.map_err(ErrorUnprocessableEntity)?;
    Ok(format!("generation {} is live", swapped.generation))
}

#[actix_web::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let path = env::args().nth(1).ok_or("usage: actix PLUGIN")?;
    // SAFETY: we build the plugin ourselves.
    let trust = unsafe { Trust::vouch(Policy::default()) };
    let postage: Shared = web::Data::new(Hotswap::load(path, &trust)?);
    HttpServer::new(move || App::new().app_data(postage.clone()).service(cents).service(swap))
        .bind(("127.0.0.1", 3000))?
        .run()
        .await?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use actix_web::test::{TestRequest, call_and_read_body, init_service};

    use super::*;

    #[actix_web::test]
    async fn it_answers_and_swaps() {
        let path = hotswap_dev::build(hotswap_dev::DevSettings::default());
        let path = path.unwrap_or_else(|error| panic!("{error}"));
        // SAFETY: built from this workspace.
        let trust = unsafe { Trust::vouch(Policy::default()) };
        let postage: Shared = web::Data::new(Hotswap::load(path, &trust).unwrap());
        let app = App::new().app_data(postage).service(cents).service(swap);
        let app = init_service(app).await;

        let request = TestRequest::get().uri("/cents/1500").to_request();
        assert_eq!(call_and_read_body(&app, request).await, "450");
        let request = TestRequest::post().uri("/swap").to_request();
        let answer = call_and_read_body(&app, request).await;
        assert_eq!(answer, "generation 2 is live");
    }
}
