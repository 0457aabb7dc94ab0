"""Every protector of the program with small settings, and what the contract suite expects of it."""

from __future__ import annotations

from dataclasses import dataclass

#: Side of the photos for which the rows are made.
SIDE = 64


@dataclass(frozen=True)
class Row:
    """A protector and what is expected of it.

    Attributes:
        spec: as given to ``make_protector``; ``{run}`` is the folder of a training run.
        others: the same protector with other settings, all different from each other.
        any_size: takes photos of any side; otherwise those of SIDE only.
        grey: grey photos stay grey.
        levels: largest change of a value in whole levels, where there is such a budget.
        shared: share of values that must agree when photos are protected one by one instead of together. Iterations
            follow signs of gradients, and the last bit of a sum may depend on the size of the batch.
    """

    spec: str
    others: tuple[str, ...] = ()
    any_size: bool = True
    grey: bool = True
    levels: int | None = None
    shared: float = 1.0


ROWS = (
    Row("identity"),
    Row(
        "gaussian-blur:px=64",
        ("gaussian-blur:px=64,sd=0.2", "gaussian-blur:px=64,sd=0.2001", "gaussian-blur:px=128,sd=0.2"),
        any_size=False,
    ),
    Row("pixelate", ("pixelate:cells=8", "pixelate:cells=9")),
    Row("noise:linf=0.03", ("noise:linf=0.06", "noise:l2=0.03", "noise:l2=2"), grey=False, levels=7),
    Row("noise:l2=2", ("noise:l2=2.5", "noise:linf=0.03"), grey=False),
    Row(
        "photo-cloak:surrogates=sface,steps=2,eot=1,budget=uniform",
        ("photo-cloak:ssim=0.9", "photo-cloak:rate=0.02", "photo-cloak:region=face"),
        levels=7,
    ),
    Row("optical-encoder:run={run},px=64", ("optical-encoder:run={run},px=128",), any_size=False),
    Row(
        "em:classes=2,train_batches=2,rounds=1,resolution=32",
        (
            "em:preset=cifar,classes=2,train_batches=2,rounds=1,resolution=32",
            "em:noise=sample,classes=2,train_batches=2,rounds=1,resolution=32",
        ),
        any_size=False,
        levels=16,
    ),
    Row("em:noise=sample,steps=2,classes=2,train_batches=2,rounds=1,resolution=32", levels=16),
    Row(
        "rem:steps=2,eot=1,attack_steps=1,train_steps=1,classes=2,resolution=32",
        (
            "rem:steps=2,eot=1,attack_steps=1,train_steps=2,classes=2,resolution=32",
            "rem:steps=2,eot=1,attack_steps=1,train_steps=1,classes=3,resolution=32",
        ),
        levels=8,
    ),
    Row(
        "dfpp:steps=2,budget=uniform",
        (
            "dfpp:steps=2",
            "dfpp:steps=3",
            "dfpp:steps=2,structure=2",
            "dfpp:steps=2,makeup=2",
            "dfpp:steps=2,residual=1",
            "dfpp:steps=2,surrogates=dlib-resnet",
            "dfpp:steps=2,eot=1",
            "dfpp:steps=2,palette=plum",
        ),
        levels=7,
    ),
    Row(
        "sparse:pixels=9,steps=3",
        (
            "sparse:pixels=8,steps=3",
            "sparse:pixels=9,steps=3,search=evolution",
            "sparse:pixels=9,steps=4",
            "sparse:pixels=9,steps=3,population=9",
            "sparse:pixels=9,steps=3,budget=uniform",
            "sparse:pixels=9,steps=3,surrogates=dlib-resnet",
            "sparse:pixels=9,steps=3,region=photo",
        ),
    ),
    Row("sparse:pixels=2,steps=2,population=4,budget=uniform", levels=7),
    Row(
        "opom:steps=2,centre_steps=1",
        (
            "opom:steps=2,centre_steps=0",
            "opom:steps=2,centre_steps=1,hull=affine",
            "opom:steps=2,centre_steps=1,budget=uniform",
            "opom:steps=2,centre_steps=1,momentum=1",
            "opom:steps=2,centre_steps=1,surrogates=dlib-resnet",
            "opom:steps=2,centre_steps=1,eot=1",
            "opom:steps=2,centre_steps=1,region=face",
            "opom:steps=2,centre_steps=1,diversity=0.5",
            "opom:preset=paper",
            "opom:preset=transfer",
        ),
        any_size=False,
        levels=8,
    ),
    Row(
        "person-cloak:steps=2,surrogates=sface",
        (
            "person-cloak:steps=2",
            "person-cloak:steps=3,surrogates=sface",
            "person-cloak:steps=2,surrogates=sface,ssim=0.9",
            "person-cloak:steps=2,surrogates=sface,budget=uniform",
            "person-cloak:steps=2,surrogates=sface,masks=1",
            "person-cloak:steps=2,surrogates=sface,apart=0",
            "person-cloak:steps=2,surrogates=sface,eot=0",
        ),
        levels=32,
    ),
    Row(
        "fawkes:steps=4,surrogates=dlib-resnet",
        (
            "fawkes:steps=5,surrogates=dlib-resnet",
            "fawkes:steps=4",
            "fawkes:mode=mid,steps=4",
            "fawkes:preset=released-0.3,steps=4,surrogates=dlib-resnet,people=2",
            "fawkes:steps=4,surrogates=dlib-resnet,eot=1",
            "fawkes:steps=4,surrogates=dlib-resnet,budget=uniform",
            "fawkes:steps=4,surrogates=dlib-resnet,dssim=0.01",
        ),
        levels=15,
    ),
    Row(
        "fawkes:preset=paper,steps=4,surrogates=dlib-resnet,people=10,budget=uniform",
        ("fawkes:preset=paper,steps=4,surrogates=dlib-resnet,people=9,budget=uniform",),
        levels=7,
    ),
    Row(
        "tip-im:steps=2,people=2,surrogates=dlib-resnet",
        (
            "tip-im:preset=released,steps=2,people=2,surrogates=dlib-resnet",
            "tip-im:steps=3,people=2,surrogates=dlib-resnet",
            "tip-im:steps=2,people=3,surrogates=dlib-resnet",
            "tip-im:steps=2,people=2",
            "tip-im:steps=2,people=2,surrogates=dlib-resnet,gamma=2",
            "tip-im:steps=2,people=2,surrogates=dlib-resnet,batch=10",
            "tip-im:steps=2,people=2,surrogates=dlib-resnet,step=1",
            "tip-im:steps=2,people=2,surrogates=dlib-resnet,budget=uniform",
            "tip-im:steps=2,people=2,surrogates=dlib-resnet,eot=1",
        ),
        levels=12,
    ),
    Row("tip-im:gamma=0,steps=2,people=2,surrogates=dlib-resnet,budget=uniform", levels=7, shared=0.98),
    Row("tip-im:preset=released,steps=2,people=2,surrogates=dlib-resnet", levels=12),
    Row(
        "apf:steps=2,width=4,people=2,captures=2,epochs=1,universal=1,batch=4",
        (
            "apf:steps=3,width=4,people=2,captures=2,epochs=1,universal=1,batch=4",
            "apf:steps=2,width=5,people=2,captures=2,epochs=1,universal=1,batch=4",
            "apf:steps=2,width=4,people=3,captures=2,epochs=1,universal=1,batch=4",
            "apf:steps=2,width=4,people=2,captures=3,epochs=1,universal=1,batch=4",
            "apf:steps=2,width=4,people=2,captures=2,epochs=2,universal=1,batch=4",
            "apf:steps=2,width=4,people=2,captures=2,epochs=1,universal=0,batch=4",
            "apf:steps=2,width=4,people=2,captures=2,epochs=1,universal=1,batch=3",
            "apf:steps=2,width=4,people=2,captures=2,epochs=1,universal=1,batch=4,rate=0.01",
            "apf:steps=2,width=4,people=2,captures=2,epochs=1,universal=1,batch=4,step_levels=1",
            "apf:steps=2,width=4,people=2,captures=2,epochs=1,universal=1,batch=4,diversity=0",
            "apf:steps=2,width=4,people=2,captures=2,epochs=1,universal=1,batch=4,momentum=1",
            "apf:steps=2,width=4,people=2,captures=2,epochs=1,universal=1,batch=4,budget=uniform",
            "apf:steps=2,width=4,people=2,captures=2,epochs=1,universal=1,batch=4,surrogates=dlib-resnet+sface",
            "apf:steps=2,width=4,people=2,captures=2,epochs=1,universal=1,batch=4,preset=paper",
            "apf:steps=2,width=4,people=2,captures=2,epochs=1,universal=1,batch=4,preset=released",
        ),
        levels=8,
    ),
    Row(
        "feed-forward:steps=2,width=4,people=2,captures=2,batch=2,surrogates=dlib-resnet,eot=0",
        (
            "feed-forward:steps=3,width=4,people=2,captures=2,batch=2,surrogates=dlib-resnet,eot=0",
            "feed-forward:steps=2,width=5,people=2,captures=2,batch=2,surrogates=dlib-resnet,eot=0",
            "feed-forward:steps=2,width=4,people=3,captures=2,batch=2,surrogates=dlib-resnet,eot=0",
            "feed-forward:steps=2,width=4,people=2,captures=3,batch=2,surrogates=dlib-resnet,eot=0",
            "feed-forward:steps=2,width=4,people=2,captures=2,batch=3,surrogates=dlib-resnet,eot=0",
            "feed-forward:steps=2,width=4,people=2,captures=2,batch=2,surrogates=sface,eot=0",
            "feed-forward:steps=2,width=4,people=2,captures=2,batch=2,surrogates=dlib-resnet,eot=1",
            "feed-forward:steps=2,width=4,people=2,captures=2,batch=2,surrogates=dlib-resnet,eot=0,rate=0.01",
            "feed-forward:steps=2,width=4,people=2,captures=2,batch=2,surrogates=dlib-resnet,eot=0,ssim=0.9",
            "feed-forward:steps=2,width=4,people=2,captures=2,batch=2,surrogates=dlib-resnet,eot=0,margin=0.5",
            "feed-forward:steps=2,width=4,people=2,captures=2,batch=2,surrogates=dlib-resnet,eot=0,budget=uniform",
        ),
        levels=16,
        shared=0.999,
    ),
)
