"""Urn's methods in other libraries' words. Each adapter imports its library itself, so nothing here is imported with urn.

```
diffusers      UrnScheduler: any plan inside an unchanged pipeline
k_diffusion    sampler(method): what k-diffusion and ComfyUI call as sample(model, x, sigmas, ...)
conventions    networks of flow_matching, SiT, EDM, guided-diffusion, score_sde and others as models
```
"""
