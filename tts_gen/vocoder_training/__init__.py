"""Training of vocoders: HiFi-GAN's generator, from the public weights or anew."""
