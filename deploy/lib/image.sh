# shellcheck shell=sh
# The image: the one named, a downloaded one, one built before, or one built now.

find_image() {
    if [ -n "$IMAGE" ]; then
        [ -f "$IMAGE" ] || fail "--image $IMAGE: no such file"
        return
    fi
    for IMAGE in "$DEPLOY/images/$SERVICE.elf" "$DEPLOY/../target/images/$SERVICE.elf"; do
        if [ -f "$IMAGE" ]; then
            return
        fi
    done
    if [ "$DRY_RUN" = yes ]; then
        return
    fi
    say "building the image of $SERVICE (once)"
    "$DEPLOY/build-image.sh" "$SERVICE" >&2
}
